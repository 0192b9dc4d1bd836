"""Open vSwitch as the switch between the networks' bridges and other hosts."""

from nephos.wiring.openvswitch.switch import FOLDER, OpenVSwitch

__all__ = ["FOLDER", "OpenVSwitch"]
