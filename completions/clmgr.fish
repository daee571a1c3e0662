complete --keep-order --exclusive --command clmgr --arguments "(COMPLETE=fish clmgr -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
