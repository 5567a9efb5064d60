"""Takes system calls away with a seccomp filter, then becomes another program.

    restrict.py io_uring_setup=EPERM openat+O_DIRECT=EINVAL -- PROGRAM ARGUMENT...
    restrict.py profile=deploy/seccomp.json -- PROGRAM ARGUMENT...

A rule answers a system call with an error; `+FLAG` does so only where the third argument holds
the flag. A profile is an allow list in the format that Docker, Podman and Kubernetes read.
"""

import ctypes
import errno
import json
import os
import re
import struct
import sys

LOAD, EQUAL, ANY_BIT, RETURN, AND = 0x20, 0x15, 0x45, 0x06, 0x54
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
NUMBER_AT, ARGUMENTS_AT = 0, 16


def step(code, k, true=0, false=0):
    return struct.pack("=HBBI", code, true, false, k)


def numbers():
    """System call numbers of this machine, from the C library's headers."""
    machine = os.uname().machine
    found = {}
    for folder in [f"/usr/include/{machine}-linux-gnu/asm", "/usr/include/asm"]:
        for header in ["unistd_64.h", "unistd.h", "../asm-generic/unistd.h"]:
            try:
                text = open(os.path.join(folder, header)).read()
            except OSError:
                continue
            for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text):
                found.setdefault(name, int(number))
    found.update(io_uring_setup=425, io_uring_enter=426, io_uring_register=427)
    found.setdefault("openat", {"x86_64": 257}.get(machine, 56))
    return found


def refuse(rule, known):
    """One system call answered with an error, perhaps only with a flag."""
    call, error = rule.split("=")
    call, _, flag = call.partition("+")
    answer = step(RETURN, ERRNO | getattr(errno, error))
    load = step(LOAD, NUMBER_AT)
    if not flag:
        return load + step(EQUAL, known[call], 0, 1) + answer
    third = step(LOAD, ARGUMENTS_AT + 2 * 8)
    test = step(ANY_BIT, getattr(os, flag), 0, 1)
    return load + step(EQUAL, known[call], 0, 3) + third + test + answer


def conditions(arguments):
    """The tests of a rule's arguments; each one that fails goes to the next rule."""
    tests = []
    for one in arguments:
        at = ARGUMENTS_AT + 8 * one["index"]
        value, second = one["value"], one.get("valueTwo", 0)
        low, high = step(LOAD, at), step(LOAD, at + 4)
        if one["op"] == "SCMP_CMP_EQ":
            tests += [low, (EQUAL, value & 0xFFFFFFFF, True), high, (EQUAL, value >> 32, True)]
        elif one["op"] == "SCMP_CMP_NE":
            tests += [low, (EQUAL, value & 0xFFFFFFFF, False)]
        elif one["op"] == "SCMP_CMP_MASKED_EQ":
            tests += [low, step(AND, value & 0xFFFFFFFF), (EQUAL, second & 0xFFFFFFFF, True)]
        else:
            sys.exit(f"the profile compares with {one['op']}, which is not known here")
    return tests


def answer(call, result, arguments):
    """One system call answered, perhaps only with some arguments."""
    tests = conditions(arguments)
    program = [step(EQUAL, call, 0, len(tests) + 1 + bool(tests))]
    for at, test in enumerate(tests):
        if isinstance(test, tuple):
            code, value, wanted = test
            to_the_end = len(tests) - at
            true, false = (0, to_the_end) if wanted else (to_the_end, 0)
            test = step(code, value, true, false)
        program.append(test)
    program.append(step(RETURN, result))
    if tests:
        program.append(step(LOAD, NUMBER_AT))
    return b"".join(program)


def profile(path, known):
    with open(path) as file:
        rules = json.load(file)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine)
    program = step(LOAD, NUMBER_AT)
    for rule in rules["syscalls"]:
        architectures = rule.get("includes", {}).get("arches")
        if architectures and machine not in architectures:
            continue
        if rule.get("includes", {}).get("caps"):
            continue
        refused = ERRNO | rule.get("errnoRet", errno.EPERM)
        result = {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_ERRNO": refused}[rule["action"]]
        for name in rule["names"]:
            if name in known:
                program += answer(known[name], result, rule.get("args") or [])
    if rules["defaultAction"] != "SCMP_ACT_ERRNO":
        sys.exit("the profile is no allow list")
    return program + step(RETURN, ERRNO | rules.get("defaultErrnoRet", errno.EPERM))


def install(program):
    libc = ctypes.CDLL(None, use_errno=True)
    steps = len(program) // 8
    text = ctypes.create_string_buffer(program)
    filter_of = struct.pack("HxxxxxxQ", steps, ctypes.addressof(text))
    no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(
        set_seccomp, filter_mode, ctypes.create_string_buffer(filter_of), 0, 0
    ):
        sys.exit(f"no seccomp filter can be set: {os.strerror(ctypes.get_errno())}")


def main():
    split = sys.argv.index("--")
    known = numbers()
    program, end = b"", step(RETURN, ALLOW)
    for rule in sys.argv[1:split]:
        if rule.startswith("profile="):
            program, end = program + profile(rule.removeprefix("profile="), known), b""
        else:
            program += refuse(rule, known)
    install(program + end)
    os.execvp(sys.argv[split + 1], sys.argv[split + 1 :])


main()
