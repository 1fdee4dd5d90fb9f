# SPDX-License-Identifier: MIT
"""The shell around the pure parts: consoles, logs, timers, signals. All of the host's I/O.

A console       attachment arrivals pulse timer
A group         group dispatcher deadwatch groupoptions options
A run           run terminalrun hangs runsignals stopsignals consolelog failedoutput: `sim` and `serve`
A hook          hook standardstreams ownterminal lavajob; lavagroup lavarelay where LAVA's coordinator has the group;
                remote where `coordinator` has it
Many groups     groups watched, for other programs groupserver remotewire strangers, for LAVA's dispatchers lavaserver
                lavapoll lavawire: `coordinator`, and the lab
Every service   service listening systemd
"""
