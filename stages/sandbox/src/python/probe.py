# Prints what an interpreter needs on disk: itself, its library, and the shared objects that its modules load; and the code of the
# server, whose source is the argument.
import glob, importlib, json, marshal, os, re, sys, sysconfig

assert sys.version_info >= (3, 9), "Python 3.9 or later is required"
for path in sorted(glob.glob(os.path.join(sysconfig.get_path("platstdlib"), "lib-dynload", "*.so"))):
    name = os.path.basename(path).split(".")[0]
    if not re.search("test|xx|tkinter|curses|readline|crypt|nis", name):
        try:
            importlib.import_module(name)
        except Exception:
            pass
try:
    # The C library loads it when the first thread ends.
    import ctypes

    ctypes.CDLL("libgcc_s.so.1")
except OSError:
    pass
executable = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
with open("/proc/self/maps") as maps:
    mapped = {line.split(None, 5)[5].rstrip("\n") for line in maps if line.count("/")}
with open(executable, "rb") as binary:
    loaders = re.findall(rb"/[\w./-]*ld-[\w.-]+\.so[\w.]*", binary.read(8192))
libraries = {os.path.realpath(path) for path in mapped if ".so" in os.path.basename(path)}
stdlib = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
links = set(loader.decode() for loader in loaders)
for directory in {os.path.dirname(path) for path in libraries}:
    for entry in os.scandir(directory):
        if entry.is_symlink() and os.path.realpath(entry.path) in libraries:
            links.add(entry.path)
inside = lambda path: any(path.startswith(directory + "/") for directory in stdlib)
print(json.dumps({
    "server": marshal.dumps(compile(sys.argv[1], "server", "exec", dont_inherit=True)).hex(),
    "version": ".".join(str(part) for part in sys.version_info[:3]),
    "executable": executable,
    "directories": sorted(stdlib),
    "files": sorted(path for path in {executable} | libraries if not inside(path)),
    "links": sorted(path for path in links if not inside(path)),
    "hidden": [path for directory in sorted(stdlib) for name in ("site-packages", "dist-packages")
               if os.path.isdir(path := os.path.join(directory, name))],
}))
