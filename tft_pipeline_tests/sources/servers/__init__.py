"""Stand-ins on 127.0.0.1 that speak the real protocols to the real client libraries, with faults to switch on."""
