package environments_test

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// A dump of a process by the kernel has the memory that the process uses, and nothing of what is
// only reserved.

var _ = testkit.Child("dump core", dumpCore)

// dumped is what a block of the dump holds, over and over.
const dumped = "what the block holds in the dump"

// dumpCore holds a block of every kind, prints their addresses and sizes and the resident bytes of
// the process, and ends with a dump into the directory dir.
func dumpCore(dir string) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &lim); err != nil {
		return err
	}
	if lim.Max < 1<<30 {
		fmt.Println("skip: the hard limit of a dump is", lim.Max)
		return nil
	}
	lim.Cur = lim.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &lim); err != nil {
		return err
	}
	for _, size := range []uintptr{48, 1000, 3000, 20_000, 100_000, 3 << 20} {
		p := hakmem.Malloc(size)
		if p == nil {
			return fmt.Errorf("no block of %d bytes: %w", size, hakmem.Err())
		}
		for b := unsafe.Slice((*byte)(p), size); len(b) > 0; {
			b = b[copy(b, dumped):]
		}
		fmt.Printf("block %d %d\n", uintptr(p), size)
	}
	rss, ok := osmem.ResidentBytes()
	if !ok {
		fmt.Println("skip: no /proc")
		return nil
	}
	fmt.Println("resident", rss)
	debug.SetTraceback("crash")
	panic("this dump is for a test")
}

// writable bounds what the process may write and has not touched. The kernel leaves holes in the
// file for it: hakmem's first step of 64 MiB, its arrays for the largest region in the program's
// data, 54 MiB, and an arena of Go's heap, 64 MiB.
const writable = 256 << 20

func TestCoreDump(t *testing.T) {
	if testkit.Race {
		t.Skip("skipped: -race; its runtime forbids dumps")
	}
	if asan.On {
		t.Skip("skipped: -asan; its runtime forbids dumps")
	}
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		t.Skip("skipped: no core pattern: ", err)
	}
	if p := strings.TrimSpace(string(pattern)); p == "" || strings.ContainsAny(p, "|@/") {
		t.Skipf("skipped: the core pattern %q takes dumps elsewhere", p)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), testkit.ChildEnv("dump core", dir), "GOTRACEBACK=crash")
	out, err := cmd.CombinedOutput()
	if s, found := bytes.CutPrefix(out, []byte("skip: ")); found {
		t.Skipf("skipped: %s", s)
	}
	if err == nil {
		t.Fatalf("the program did not end with a signal:\n%s", out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if status.Signaled() && !status.CoreDump() {
			t.Skip("skipped: the kernel made no dump: ", status.Signal())
		}
		t.Fatalf("the dump is not where the core pattern says: %v %v\n%s", files, err, out[:min(len(out), 2000)])
	}
	core, err := elf.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	blocks, resident := 0, int64(0)
	for line := range strings.Lines(string(out)) {
		var addr, size uint64
		switch n, _ := fmt.Sscanf(line, "block %d %d", &addr, &size); n {
		case 2:
			blocks++
			got, err := inCore(core, addr, size)
			if want := strings.Repeat(dumped, int(size)/len(dumped)+1)[:size]; err != nil || string(got) != want {
				t.Errorf("the block of %d bytes at %#x is not in the dump, or something else is: %v", size, addr, err)
			}
		default:
			if n, _ := fmt.Sscanf(line, "resident %d", &resident); n == 1 {
				continue
			}
		}
	}
	if blocks != 6 || resident == 0 {
		t.Fatalf("the program did not say what it has:\n%s", out[:min(len(out), 2000)])
	}
	info, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	onDisk := info.Sys().(*syscall.Stat_t).Blocks * 512
	t.Logf("%d MiB resident: a dump of %d MiB, %d MiB of them on disk", resident>>20, info.Size()>>20, onDisk>>20)
	if info.Size() > resident+writable {
		t.Errorf("a dump of %d MiB of a process with %d MiB resident", info.Size()>>20, resident>>20)
	}
}

// inCore returns the bytes at an address, from a dump.
func inCore(core *elf.File, addr, size uint64) ([]byte, error) {
	b := make([]byte, 0, size)
	for uint64(len(b)) < size {
		at := addr + uint64(len(b))
		before := len(b)
		for _, p := range core.Progs {
			if p.Type != elf.PT_LOAD || at < p.Vaddr || at >= p.Vaddr+p.Filesz {
				continue
			}
			n := min(size-uint64(len(b)), p.Vaddr+p.Filesz-at)
			part := make([]byte, n)
			if _, err := p.ReadAt(part, int64(at-p.Vaddr)); err != nil {
				return nil, err
			}
			b = append(b, part...)
			break
		}
		if len(b) == before {
			return nil, fmt.Errorf("nothing of %#x is in it", at)
		}
	}
	return b, nil
}
