"""`lightspeed-azure demo`: the main job, on this machine alone.

`scenario.py` tells the story, one mode at a time; `processes.py` starts and ends the real servers;
`crowd.py` asks the questions; `watch.py` collects what happens; `screen.py` shows it; `verdict.py`
says whether the promises were kept.
"""
