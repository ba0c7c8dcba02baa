//go:build go1.26 && !go1.28 && amd64 && !hakmem_pin && !hakmem_nopin && !hakmem_nolive && !race && !asan && !msan

// Package golden checks the number of instructions, loads and branches of the fast paths: a test of
// their speed that needs no clock. (google/tcmalloc has such a file for its fast path.)
package golden

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata/amd64.txt; add a line to docs/ledger.md")

type count struct{ instructions, loads, branches int }

// ceilings are the limits that the project has set; a golden file that exceeds them fails the test.
var ceilings = map[string]count{
	"Malloc":      {40, 10, 99},
	"Malloc.call": {3, 2, 0},
	"Malloc.mid":  {50, 20, 99}, // the continuation of Malloc above 1 KiB, and
	"Malloc.span": {50, 20, 99}, // above 32 KiB
	"Free":        {40, 10, 99},
	"Free.call":   {3, 2, 0},
	"Free.mid":    {50, 20, 99},
	"Heap.Malloc": {24, 99, 99},
	"Heap.Free":   {24, 99, 99},
}

// TestGoldenCounts counts in a program that it builds: the routines that Malloc and Free call, to
// their last instruction; the calls of these, which are in the caller; and the part of a Heap's
// paths that is inlined into the caller.
func TestGoldenCounts(t *testing.T) {
	bin := build(t)
	got := map[string]count{
		"Malloc":      read(t, bin, `^github.com/hakmem/hakmem/internal/engine\.mallocTiny\.abi0$`, ""),
		"Malloc.mid":  read(t, bin, `^github.com/hakmem/hakmem/internal/engine\.mallocMid\.abi0$`, ""),
		"Malloc.span": read(t, bin, `^github.com/hakmem/hakmem/internal/engine\.mallocLarge\.abi0$`, ""),
		"Malloc.call": read(t, bin, `^main\.globalMalloc$`, "malloc.go"),
		"Free":        read(t, bin, `^github.com/hakmem/hakmem/internal/engine\.freeTiny\.abi0$`, ""),
		"Free.mid":    read(t, bin, `^github.com/hakmem/hakmem/internal/engine\.freeMid\.abi0$`, ""),
		"Free.call":   read(t, bin, `^main\.globalFree$`, "malloc.go"),
		"Heap.Malloc": read(t, bin, `^main\.heapMalloc$`, "heap.go"),
		"Heap.Free":   read(t, bin, `^main\.heapFree$`, "heap.go"),
	}
	text := fmt.Sprintf("# %s: instructions, loads, conditional branches\n", goVersion())
	for _, name := range slices.Sorted(maps.Keys(got)) {
		c, most := got[name], ceilings[name]
		if c.instructions > most.instructions || c.loads > most.loads {
			t.Errorf("%s: %+v is above the ceiling %+v", name, c, most)
		}
		text += fmt.Sprintf("%s %d %d %d\n", name, c.instructions, c.loads, c.branches)
	}
	file := filepath.Join("testdata", "amd64.txt")
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if version, _, _ := strings.Cut(string(want), ":"); version != "# "+goVersion() {
		t.Skipf("skipped: the golden counts are those of %s; this is %s (the ceilings were checked)", version[2:], goVersion())
	}
	if text != string(want) {
		t.Errorf("the counts changed; if that is wanted, run go test ./internal/golden -update and add a line to docs/ledger.md\ngot:\n%swant:\n%s", text, want)
	}
}

// TestInlining checks that the Heap's fast paths are part of their caller and that the global ones
// are not, because inlined code would be preemptible.
func TestInlining(t *testing.T) {
	bin := build(t)
	for fn, file := range map[string]string{`^main\.heapMalloc$`: "heap.go:", `^main\.heapFree$`: "heap.go:"} {
		if text := objdump(t, bin, fn); !strings.Contains(text, file) || strings.Contains(text, "CALL github.com/hakmem") {
			t.Errorf("%s: the fast path is not part of its caller:\n%s", fn, text)
		}
	}
	// Of the global functions, the caller may contain only the call through the function value: the
	// section itself would be preemptible there.
	for _, fn := range []string{`^main\.globalMalloc$`, `^main\.globalFree$`} {
		text := objdump(t, bin, fn)
		rest := strings.ReplaceAll(text, "internal/engine.Road", "") // where the function value is
		if strings.Contains(rest, "internal/engine.") || !strings.Contains(text, "CALL") || strings.Contains(text, "road_amd64.h:") {
			t.Errorf("%s: the fast section is part of its caller:\n%s", fn, text)
		}
	}
}

func goVersion() string { // major.minor only, because patch releases do not change the code generator
	v := strings.SplitN(runtime.Version(), ".", 3)
	return strings.Join(v[:2], ".")
}

func build(t *testing.T) string {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("skipped: no go command: ", err)
	}
	bin := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-o", bin, "./program")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

func objdump(t *testing.T, bin, symbol string) string {
	out, err := exec.Command("go", "tool", "objdump", "-s", symbol, bin).CombinedOutput()
	if err != nil {
		t.Fatalf("go tool objdump: %v\n%s", err, out)
	}
	return string(out)
}

// line matches objdump's "  file.go:12	0x1234	4889e5	MOVQ SP, BP".
var line = regexp.MustCompile(`^\s+(\S+):\d+\s+0x[0-9a-f]+\s+[0-9a-f]+\s+(\S+)(.*)$`)

// read counts the instructions of a function, or only those from one source file if file is not "".
func read(t *testing.T, bin, symbol, file string) (c count) {
	for _, l := range strings.Split(objdump(t, bin, symbol), "\n") {
		m := line.FindStringSubmatch(l)
		if m == nil || file != "" && m[1] != file {
			continue
		}
		op, args := m[2], strings.TrimSpace(m[3])
		if strings.HasPrefix(op, "NOP") || strings.HasPrefix(op, "XCHGW") || op == "INT" { // padding
			continue
		}
		c.instructions++
		if op[0] == 'J' && op != "JMP" {
			c.branches++
		}
		if reads(op, args) {
			c.loads++
		}
	}
	if c.instructions == 0 {
		t.Fatalf("no code of %s found", symbol)
	}
	return c
}

// reads reports whether an instruction reads memory: it has a memory operand, and is not an address
// computation, a call, a jump, or a move to that operand.
func reads(op, args string) bool {
	if op == "CALL" || op[0] == 'J' || strings.HasPrefix(op, "LEA") {
		return false
	}
	operands := strings.Split(args, ", ")
	for i, a := range operands {
		isMemory := strings.Contains(a, "(") && !strings.HasPrefix(a, "$")
		isMoved := strings.HasPrefix(op, "MOV") && i == len(operands)-1
		if isMemory && !isMoved {
			return true
		}
	}
	return false
}
