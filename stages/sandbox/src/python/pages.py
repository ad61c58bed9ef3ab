# The pages of memory that the processes of every program write, whatever the program is: counts of references, free lists.
#
# After a fork the first write to each page is a fault, in the child and again in the zygote, which takes longer than copying the page.
# A page that is pinned for input and output is copied by the fork itself, and has no faults. The ring that pins a zygote's pages is
# held by the server: a zygote and what it forks have no descriptor of it. Where the kernel refuses a step, nothing is pinned.
import array

IO_URING_SETUP, IO_URING_REGISTER, REGISTER_BUFFERS = 425, 427, 0
# `/proc/PID/pagemap`: eight bytes a page.
PRESENT, OF_A_FILE, MAPPED_ONCE = 1 << 63, 1 << 61, 1 << 56
PAGE = os.sysconf("SC_PAGE_SIZE")
# The kernel's limit.
MOST_RANGES = 1 << 14


class Memory:
    """The writable memory of a process, as it was."""

    def __init__(self, proc):
        self.proc = proc
        self.ranges = []
        with open(os.open("self/maps", os.O_RDONLY, dir_fd=proc)) as maps:
            for line in maps:
                place, access = line.split(None, 2)[:2]
                if access == "rw-p":
                    self.ranges.append([int(address, 16) for address in place.split("-")])
        self.before = array.array("Q", self.entries())

    def entries(self):
        """The entries of `pagemap` for all ranges, of the calling process."""
        pagemap = os.open("self/pagemap", os.O_RDONLY, dir_fd=self.proc)
        try:
            return b"".join([os.pread(pagemap, (end - start) // PAGE * 8, start // PAGE * 8) for start, end in self.ranges])
        finally:
            os.close(pagemap)

    def written(self, entries):
        """Returns the pages that were there before, and of which a child's entries say that it shares them no longer."""
        pages = [page for start, end in self.ranges for page in range(start, end, PAGE)]
        entries = zip(pages, self.before, array.array("Q", entries))
        return [page for page, old, new in entries if old & PRESENT and new & MAPPED_ONCE and not new & OF_A_FILE]


def made_ring():
    """Returns the descriptor of a ring; `None` if the kernel refuses it."""
    parameters = ctypes.create_string_buffer(120)
    made = libc.syscall(IO_URING_SETUP, 1, ctypes.addressof(parameters), 0, 0)
    return made if made >= 0 else None


def pin(ring, pages):
    """Pins pages of this process for as long as the ring exists."""
    ranges = []
    for page in pages:
        if ranges and sum(ranges[-2:]) == page:
            ranges[-1] += PAGE
        else:
            ranges += page, PAGE
    vectors = array.array("Q", ranges[: 2 * MOST_RANGES])
    libc.syscall(IO_URING_REGISTER, ring, REGISTER_BUFFERS, vectors.buffer_info()[0], len(vectors) // 2)
