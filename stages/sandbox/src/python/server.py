# The fork server: a warm interpreter with two confined copies, the zygotes, of which one forks each candidate's process and
# the other each checker's.
#
# None of the three reads a program: the sources travel in files that only the forked processes read, so that the memory
# which these inherit holds neither tests nor another program's text. None knows a nonce. The server alone has
# capabilities, in its user namespace: it mounts a new `/tmp` for each program. Its descriptors:
#   0 the control socket (SOCK_SEQPACKET)    1 and 2 /dev/null
import ctypes, fcntl, gc, resource, select, signal, socket

NEWPID, DETACH = 0x20000000, 2
PDEATHSIG, SET_DUMPABLE, SET_SECCOMP, CAPBSET_DROP, SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
LANDLOCK_RESTRICT_SELF, CLOSE_RANGE = 446, 436
NOSUID_NODEV = 6
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.argtypes = [ctypes.c_long] * 5
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


class Layer(Exception):
    """A layer that cannot be applied: its name, the number of the kernel's error and its text."""


def require(layer, result):
    if result < 0:
        number = ctypes.get_errno()
        raise Layer("%s: %d: %s" % (layer, number, os.strerror(number)))
    return result


def close_from(lowest):
    if libc.syscall(CLOSE_RANGE, lowest, 0x7FFFFFFF, 0, 0) < 0:
        os.closerange(lowest, 1 << 16)


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


class Zygote:
    """A confined process that forks one process for each program, with as little left to do as it can.

    It is the first process of its pid namespace: no signal from in there ends it, and it ends all that is left of a program."""

    # The rings of all zygotes, which only the server holds.
    rings = []

    def __init__(self, setup, ruleset, run, pages):
        self.layers = set(setup["layers"])
        self.namespaces = setup["namespaces"]
        self.private = setup["private"]
        self.run = run
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ring = made_ring()
        if ring is not None:
            self.rings.append(ring)
        if "pid" in self.layers:
            require("pid", libc.unshare(NEWPID))
        zygote = os.fork()
        if zygote:
            theirs.close()
            if "pid" in self.layers:
                own = os.pidfd_open(os.getpid())
                require("pid", libc.setns(own, NEWPID))
                os.close(own)
            return
        self.control = theirs
        if ring is not None:
            pin(ring, pages)
        for ring in self.rings:
            os.close(ring)
        try:
            self.confine(setup, ruleset)
        except Layer as error:
            self.control.send(str(error).encode())
        else:
            self.control.send(b"ready")
            self.serve()
        finally:
            os._exit(1)

    def confine(self, setup, ruleset):
        """Applies every layer but the limits, which are each program's own."""
        libc.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Not what the caller's caller has left: the time of a child is counted when it is waited for.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open("/dev/null", os.O_RDWR), 0)
        os.dup2(0, 1)
        os.dup2(0, 2)
        os.chdir("/")
        if self.layers & {"privileges", "landlock", "seccomp"}:
            require("privileges", libc.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        if "landlock" in self.layers:
            require("landlock", libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0, 0, 0))
        if "privileges" in self.layers:
            for capability in range(64 if self.namespaces else 0):
                if libc.prctl(CAPBSET_DROP, capability, 0, 0, 0) < 0:
                    if ctypes.get_errno() == errno.EINVAL:
                        break
                    require("privileges", -1)
            header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
            require("privileges", libc.capset(header, sets))
            # No process of a program reads this one's memory.
            require("privileges", libc.prctl(SET_DUMPABLE, 0, 0, 0, 0))
        if "environment" in self.layers:
            os.environ.clear()
        if "descriptors" in self.layers:
            kept = self.control.fileno()
            os.closerange(3, kept)
            close_from(kept + 1)
        if "seccomp" in self.layers:
            instructions = bytes.fromhex(setup["filter"])
            filter = Filter(len(instructions) // 8, instructions)
            require("seccomp", libc.prctl(SET_SECCOMP, 2, ctypes.addressof(filter), 0, 0))

    def serve(self):
        while True:
            message, descriptors, _, _ = socket.recv_fds(self.control, 4096, 4)
            if not message:
                os._exit(0)
            alive, held = os.pipe()
            child = os.fork()
            if not child:
                try:
                    os.setsid()
                    if "root" in self.layers:
                        # Only here: before, the program's own directory was not mounted there.
                        os.chdir(self.private)
                    # 3 and up are the program's, in order; its outputs go to the last.
                    for place, descriptor in enumerate([fcntl.fcntl(d, fcntl.F_DUPFD, 64) for d in descriptors + [held]], 3):
                        os.dup2(descriptor, place)
                    os.dup2(2 + len(descriptors), 1)
                    os.dup2(2 + len(descriptors), 2)
                    if "descriptors" in self.layers:
                        close_from(4 + len(descriptors))
                    if "limits" in self.layers:
                        self.limit(json.loads(message))
                    gc.enable()
                    self.run()
                finally:
                    os._exit(1)
            for descriptor in descriptors + [held]:
                os.close(descriptor)
            poll = select.poll()
            poll.register(self.control, select.POLLIN)
            poll.register(alive, 0)
            if not any(descriptor != alive for descriptor, _ in poll.poll()):
                self.control.send(b"done")
            if not self.control.recv(16):
                os._exit(0)
            os.close(alive)
            report = json.dumps(self.end(child)).encode()
            self.control.send(report)

    def end(self, child):
        """Ends all processes of the program; returns the first one's status, and the processor time of all."""
        status, seconds, all = 0, 0.0, "pid" in self.layers
        while True:
            try:
                os.kill(-1 if all else child, signal.SIGKILL)
            except ProcessLookupError:
                pass
            try:
                process, ended, usage = os.wait4(-1 if all else child, 0)
            except ChildProcessError:
                return {"status": status, "seconds": seconds}
            seconds += usage.ru_utime + usage.ru_stime
            if process == child:
                status = ended

    def limit(self, limits):
        def both(which, value):
            highest = resource.getrlimit(which)[1]
            value = min(value, (1 << 63) - 1)
            value = value if highest == resource.RLIM_INFINITY else min(value, highest)
            resource.setrlimit(which, (value, value))

        both(resource.RLIMIT_CORE, 0)
        both(resource.RLIMIT_CPU, limits["seconds"])
        both(resource.RLIMIT_FSIZE, limits["disk"])
        both(resource.RLIMIT_NOFILE, limits["descriptors"])
        both(resource.RLIMIT_STACK, 8 << 20)
        both(resource.RLIMIT_MEMLOCK, 0)
        both(resource.RLIMIT_MSGQUEUE, 0)
        both(resource.RLIMIT_SIGPENDING, 64)
        if self.namespaces:
            # Tasks are counted by user namespace: this server, its parent, two zygotes and the checker are there too.
            both(resource.RLIMIT_NPROC, 5 + limits["processes"])
        both(resource.RLIMIT_AS, limits["memory"])


def candidate():
    # The pipe whose end means that the process has ended is the checker's only.
    os.close(6)
    run_candidate(3, 4)


def checker():
    run_checker(5, 4, 3, None)
    os._exit(0)


def both():
    """Without the layer `checker`: the candidate and its tests in one process."""
    run_checker(-1, 4, 3, 5)
    os._exit(0)


class Server:
    def __init__(self, setup, ruleset, pages):
        self.layers = set(setup["layers"])
        self.private = setup["private"].encode()
        self.null = os.open("/dev/null", os.O_RDWR)
        runs = (candidate, checker if "checker" in self.layers else both)
        zygotes = [Zygote(setup, ruleset, run, written) for run, written in zip(runs, pages)]
        self.candidate, self.checker = [zygote.control for zygote in zygotes]
        for control in (self.candidate, self.checker):
            reply = control.recv(4096)
            if reply != b"ready":
                raise Layer(reply.decode())

    def serve(self, control):
        while True:
            message, (source, output), _, _ = receive(control, 4096, 2)
            if "root" in self.layers:
                options = "mode=0700,size=%d,nr_inodes=%d" % (json.loads(message)["disk"], 1024)
                require("root", libc.mount(b"tmpfs", self.private, b"tmpfs", NOSUID_NODEV, options.encode()))
            if "checker" in self.layers:
                near, far = socket.socketpair()
                socket.send_fds(self.candidate, [message], [far.fileno(), source, output])
                far.close()
                given = [near.fileno(), self.null]
            else:
                given = [source, output]
            _, (tests, verdict), _, _ = receive(control, 16, 2)
            socket.send_fds(self.checker, [message], [verdict, tests] + given)
            if "checker" in self.layers:
                near.close()
            for descriptor in (source, output, tests, verdict):
                os.close(descriptor)
            report = self.wait(control)
            # Not while a process that outlived its program, without the layer `pid`, holds it.
            if "root" in self.layers and libc.umount2(self.private, 0) < 0:
                require("root", libc.umount2(self.private, DETACH))
            control.send(json.dumps(report).encode())

    def wait(self, control):
        """Waits until the checker ends or the host sends a message, ends both processes, and returns how they ended."""
        poll = select.poll()
        poll.register(control, select.POLLIN)
        poll.register(self.checker, select.POLLIN)
        if any(descriptor == control.fileno() for descriptor, _ in poll.poll()) and not control.recv(16):
            os._exit(0)
        report = {}
        zygotes = {"checker": self.checker}
        if "checker" in self.layers:
            zygotes["candidate"] = self.candidate
        for zygote in zygotes.values():
            zygote.send(b"end")
        for name, zygote in zygotes.items():
            reply = b"done"
            while reply == b"done":
                reply = zygote.recv(4096)
            report[name] = json.loads(reply)
        return report


def receive(control, length, count):
    received = b"kill", None
    # Which comes too late if the program has just ended.
    while received[0] == b"kill":
        received = socket.recv_fds(control, length, count)
    if not received[0]:
        os._exit(0)
    return received


def warm():
    """Does once what every child does, so that caches are filled before the fork and their pages stay shared.

    A child copies each page that it writes first; without this it writes three times as many."""
    near_end, far_end = socket.socketpair()
    far = Peer(far_end.fileno(), lambda value: True)

    class Near(Peer):
        def receive(self):
            far.answer(Peer.receive(far))
            return Peer.receive(self)

    near = Near(near_end.fileno(), lambda value: False)
    source = "def f(x):\n    return sorted(x)[0] + len(x)\n\nfor i in range(3):\n    assert f([2, i]) >= i, 'no'\n"
    for _ in range(64):
        space = module("warm")
        exec(compile(source, "warm", "exec", dont_inherit=True), space)
        far.named = space.__getitem__
        function = near.request("name", "f")
        assert function([1, 2.5]) == 3
        try:
            function(({"a": {3}}, "b"))
        except TypeError as error:
            failure(error), described(error)
    del sys.modules["warm"]


def main():
    # Out of the host's process group and off its terminal: a signal to a group crosses pid namespaces.
    os.setsid()
    control = socket.socket(fileno=0)
    message, (ruleset, proc), _, _ = receive(control, 1 << 16, 2)
    setup = json.loads(message)
    if "descriptors" in setup["layers"]:
        kept = sorted((ruleset, proc))
        os.closerange(3, kept[0])
        os.closerange(kept[0] + 1, kept[1])
        close_from(kept[1] + 1)
    if setup["processor"] is not None:
        try:
            os.sched_setaffinity(0, {setup["processor"]})
        except OSError:
            # It may not be used any more. On any processor the results are the same.
            pass
    sys.path[:] = [place for place in sys.path if place.startswith("/")]
    # The same random numbers in every process: without its hook, which would seed each from the system.
    register, os.register_at_fork = os.register_at_fork, lambda **_: None
    __import__("random").seed(0)
    os.register_at_fork = register
    for name in setup["preload"]:
        __import__(name)
    warm()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        pages = written_in_a_trial(proc)
    except OSError:
        pages = [(), ()]
    os.close(proc)
    try:
        if "pid" in setup["layers"]:
            # This server becomes the first process of a pid namespace: its end ends every process in it.
            require("pid", libc.unshare(NEWPID))
            server = os.fork()
            if server:
                close_from(0)
                os.waitpid(server, 0)
                os._exit(0)
            libc.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        server = Server(setup, ruleset, pages)
    except Layer as error:
        control.send(str(error).encode())
        os._exit(1)
    control.send(b"ready")
    server.serve(control)


main()
