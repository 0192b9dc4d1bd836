from nephos.cli import main

main()
