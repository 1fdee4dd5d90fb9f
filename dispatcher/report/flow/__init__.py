# SPDX-License-Identifier: MIT
"""Flow tables: what the devices of a group did, whom each waited for, and how it ended.

    events --model--> Flow --tables--> Table --table--> text, Markdown
                           --page----> one HTML page with a time line

All but `page`, which reads its style sheet and script from this package, do no I/O.
"""
