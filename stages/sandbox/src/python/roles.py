# What the two processes of a program do, once they are confined.
import errno, marshal, sys

# Longer code of tests is compiled for each program.
LONGEST_CODE = 1 << 20
REFUSED = (errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOSYS)


def module(name):
    made = types.ModuleType(name)
    sys.modules[name] = made
    return made.__dict__


def run_candidate(link, source):
    """Runs the candidate's module, then answers the checker's requests until it is killed."""
    peer = Peer(link, lambda value: True)
    space = module("candidate")

    def named(name):
        if name not in space:
            raise NameError("the candidate does not define " + name)
        return space[name]

    def load():
        exec(compile(read_text(source), "candidate", "exec", dont_inherit=True), space)

    peer.named = named
    peer.objects.append(load)
    while True:
        peer.answer(peer.receive())


def run_checker(link, source, verdict, candidate):
    """Runs the tests and writes the verdict. `candidate` is the candidate's source where it shares this process."""
    header, _, code = read_all(source).partition(b"\n")
    request = json.loads(header)
    peer = Peer(link, lambda value: type(value) in FUNCTIONS[:3])
    try:
        space = module("tests")
        setup, tests = marshal.loads(code) if code else compiled(request, verdict)
        exec(setup, space)
    except BaseException as error:
        result = ["tests", described(error)]
    else:
        try:
            if candidate is not None:
                exec(compile(read_text(candidate), "candidate", "exec", dont_inherit=True), space)
            else:
                peer.call(0, (), {})
                for name in request["calls"]:
                    space[name] = peer.request("name", name)
            exec(tests, space)
            result = ["passed", ""]
        except BaseException as error:
            result = [failure(error), described(error)]
        if peer.fault is not None:
            result = ["ended", peer.fault]
    write_all(verdict, json.dumps([request["nonce"]] + result).encode())


def compiled(request, verdict):
    """Compiles the tests and sends their code to the host, for the next program of the problem.

    The code is on its way before this process reads anything of the candidate's."""
    code = b""
    try:
        setup, tests = (compile(request[name], name, "exec", dont_inherit=True) for name in ("setup", "tests"))
        try:
            code = marshal.dumps((setup, tests))
        except ValueError:
            # Nested too deeply.
            pass
        code = code if len(code) <= LONGEST_CODE else b""
    finally:
        write_all(verdict, len(code).to_bytes(8, "little") + code)
    return setup, tests


def failure(error):
    if isinstance(error, SyntaxError):
        return "syntax"
    if isinstance(error, NameError):
        return "name"
    if isinstance(error, AssertionError):
        return "assertion"
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, OSError) and error.errno in REFUSED:
        return "refused"
    return "exception"
