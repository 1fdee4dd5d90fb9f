# SPDX-License-Identifier: MIT
"""Reads shell text as a shell would run it, without running it, and notes the multi-node calls.

reading     a definition on one device: the way in
walker      where it is: the state, statements in sequence and in branches
statements  if, case, lists, pipelines, assignments      loops     for, while, until
commands    simple commands, functions, scripts          builtins  cd, eval, trap and so on
words       words with their expansions                  output    what a $(...) prints
conditions  test, [ and [[                               scope     variables, arguments, the folder
grammar     the text as a tree

The text is parsed by tree-sitter, which goes on after what is no shell text.
"""
