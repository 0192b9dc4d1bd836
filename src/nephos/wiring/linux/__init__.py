"""The wiring driver for Linux hosts: kernel bridges, VXLAN, taps, nftables, dnsmasq and router namespaces."""

from nephos.wiring.linux.driver import LinuxWiring

__all__ = ["LinuxWiring"]
