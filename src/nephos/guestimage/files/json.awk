# Flattens a JSON document: one line a scalar, its path with slashes, a tab, its value. Newlines inside a value
# become spaces. Enough of JSON for what a metadata service writes; anything else ends quietly.
{ text = text $0 " " }
END { position = 1; value("") }

function blank() {
    while (substr(text, position, 1) ~ /[ \t\r\n,:]/ && position <= length(text)) position++
}

function value(path,    char, key, count) {
    blank()
    char = substr(text, position, 1)
    if (char == "{" || char == "[") {
        position++
        for (count = 0; ; count++) {
            blank()
            if (position > length(text)) exit
            if (substr(text, position, 1) ~ /[]}]/) { position++; return }
            key = count
            if (char == "{") { key = string(); blank() }
            value(path == "" ? key : path "/" key)
        }
    }
    if (char == "\"") { print path "\t" string(); return }
    if (!match(substr(text, position), /^[-+.a-zA-Z0-9]+/)) exit
    print path "\t" substr(text, position, RLENGTH)
    position += RLENGTH
}

# A string, from its quote on; most have no escape, so look for the end at once.
function string(    rest, out, char) {
    out = ""
    position++
    while (1) {
        rest = substr(text, position)
        if (!match(rest, /["\\]/)) exit
        out = out substr(rest, 1, RSTART - 1)
        position += RSTART
        if (substr(rest, RSTART, 1) == "\"") { sub(/[ \n]+$/, "", out); return out }
        char = substr(text, position, 1)
        position++
        if (char == "n" || char == "t" || char == "r") out = out " "
        else if (char == "u") { out = out sprintf("%c", hex(substr(text, position, 4))); position += 4 }
        else out = out char
    }
}

function hex(digits,    total, i) {
    total = 0
    for (i = 1; i <= length(digits); i++)
        total = total * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
    return total
}
