"""A coding agent that does what a script says: `python -m holdfast.agents.scripted SCRIPT`, ACP over stdio.

It is real in all but its mind: a process that keeps sessions, edits files, runs commands, asks permission, and can be
made to misbehave in every way that real ones do. Tests, the demo and the docs use it. The script is YAML, or JSON if
the file's name ends so:

    agent:                              all of it optional
      name: scripted
      protocol: 1                       the version that it speaks
      load: true                        may sessions be loaded, resumed, forked, listed?
      resume: false
      fork: true
      list: true
      auth: none                        `required`: `session/new` fails until `authenticate` was called
                                        `never`: that fails too
      modes: [ask, code]
      models: [small, large]
      mute: [initialize]                methods that are never answered
    start:                              actions before the first message is read
      - stderr: "no licence"
      - crash: {code: 3}
    turns:                              one list of actions per prompt; the last one serves all further prompts
      - - say: "You said {prompt}"
        - write: {path: a.txt, text: "hello\\n"}
        - ask: {title: "Run it?", allow: [{run: "make"}], reject: [{say: "Then not."}]}

Actions (`actions.py`): say, think, plan, read, write, append, edit, run, mcp, ask, usage, spend, mode, sleep, await,
stop, fail, hang, flood, garbage, long_line, unknown_update, send, stderr, crash, leave_children. In texts, {prompt},
{history}, {read}, {output}, {answer}, {turn}, {session}, {cwd}, {mode} and {model} are filled in. `once: FILE` in an
action makes it happen only while FILE does not exist, and makes FILE: so a crash can be survived by the next run.

A session is a JSON file in `$HOLDFAST_SCRIPTED_SESSIONS`, else in `$HOME/.holdfast-scripted`, written when a prompt
comes and when its turn ends; a turn that was cut off is in the history as the prompt that it began with, and the
prompt after it gets the same list of actions. Only the standard library is imported before the script is read: it
starts in some 50 ms.
"""
