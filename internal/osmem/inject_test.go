package osmem

import (
	"errors"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"maps"
	"runtime"
	"slices"
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
)

// refused lists the functions whose system calls can be made to fail, with their
// Op and a call. The range is a committed page.
var refused = map[string]struct {
	op   Op
	call func(addr mem.Addr, size mem.Bytes) error
}{
	"Reserve": {OpReserve, func(_ mem.Addr, size mem.Bytes) error { _, err := Reserve(size); return err }},
	"ReserveAt": {OpReserve, func(_ mem.Addr, size mem.Bytes) error {
		free, err := reserve(size) // a place that nothing else takes meanwhile
		if err != nil {
			return err
		}
		release(free, size)
		if err = ReserveAt(free, size); err == nil {
			release(free, size)
		}
		return err
	}},
	"ReserveTracked":  {OpReserve, func(_ mem.Addr, size mem.Bytes) error { _, err := ReserveTracked(size); return err }},
	"MakeReadable":    {OpReserve, MakeReadable},
	"Commit":          {OpCommit, Commit},
	"Discard":         {OpDiscard, Discard},
	"DiscardReadable": {OpDiscard, DiscardReadable},
	"DiscardMany":     {OpDiscard, func(addr mem.Addr, size mem.Bytes) error { _, err := DiscardMany([]Range{{addr, size}}); return err }},
	"Withdraw":        {OpDiscard, Withdraw},
	"Uncommit":        {OpDiscard, func(addr mem.Addr, size mem.Bytes) error { return Uncommit(addr, size, false) }},
	"BeginLook":       {OpResident, func(addr mem.Addr, size mem.Bytes) error { _, err := look(addr, size); return err }},
	"Renew":           {OpDiscard, Renew},
	"Move":            {OpMove, moveAway},
	"Populate":        {OpPopulate, Populate},
	"HugePages":       {OpAdvise, func(addr mem.Addr, size mem.Bytes) error { return HugePages(addr, size, false) }},
}

// moveAway moves a range to another one, and back.
func moveAway(addr mem.Addr, size mem.Bytes) error {
	to, err := reserve(size)
	if err != nil {
		return err
	}
	defer release(to, size)
	if err := commit(to, size); err != nil {
		return err
	}
	if err := Move(addr, to, size); err != nil {
		return err
	}
	return Move(to, addr, size)
}

// TestCommitPinned: a pinned commit is refused by InjectPinned alone, whose function does not block. It
// counts as a commit, and a refusal as a failure.
func TestCommitPinned(t *testing.T) {
	const size = 64 << 10
	addr, err := Reserve(size)
	if err != nil {
		t.Fatal(err)
	}
	defer Release(addr, size)
	defer Inject(nil)
	defer InjectPinned(nil)
	Inject(func(Op) error { return ErrInjected })
	for _, refused := range []bool{true, false} {
		InjectPinned(func() error {
			if refused {
				return ErrInjected
			}
			return nil
		})
		calls, failures := Calls(OpCommit), Failed()
		err := CommitPinned(addr, size)
		calls, failures = Calls(OpCommit)-calls, Failed()-failures
		if refused && (!errors.Is(err, ErrInjected) || calls != 0 || failures != 1) || !refused && (err != nil || calls != 1 || failures != 0) {
			t.Errorf("refused: %t: %v, %d calls and %d failures counted", refused, err, calls, failures)
		}
	}
	*(*byte)(pointer(addr)) = 1
}

// neverRefused lists the other exported functions, and why they need not fail in tests.
var neverRefused = map[string]string{
	"Release":            "a failure leaves address space reserved, which nothing can mend or report",
	"Name":               "best effort: old kernels refuse it always",
	"StrictCommit":       "a failure counts as a system that does not",
	"AssumeStrictCommit": "no system call",
	"ReadsTakeMemory":    "a failure counts as a system where they do",
	"AssumeReads":        "no system call",
	"LockRefused":        "no system call",
	"AddressSpaceLeft":   "a failure counts as no limit; the reservation then fails if there is one",
	"MappingsLeft":       "a failure counts as a number that is not known",
	"HugePageMode":       "a failure counts as a system without the setting, or as an unknown one",
	"HugePageSize":       "a failure counts as unknown",
	"ProcessCPU":         "for statistics: zero",
	"ProcessFaults":      "for statistics: zeros",
	"ResidentBytes":      "for statistics: says when it does not know",
	"PageSize":           "no system call",
	"Calls":              "no system call",
	"Failed":             "no system call",
	"Inject":             "no system call",
	"InjectPinned":       "no system call",
	"CommitPinned":       "TestCommitPinned refuses it",
	"InjectRanges":       "no system call",
	"LikelyReason":       "no system call",
	"Collapse":           "TestCollapse refuses it: it needs 2 MiB",
	"CannotPopulate":     "no system call",
	"Nap":                "only waits",
}

// look returns how many pages of the range are resident.
func look(addr mem.Addr, size mem.Bytes) (pages int, err error) {
	var l Look
	if err := BeginLook(&l); err != nil {
		return 0, err
	}
	defer l.Close()
	n, known := l.Resident(addr, size)
	if !known {
		return 0, ErrNotSupported
	}
	return int(n / PageSize()), nil
}

// exported returns the exported functions of this build's sources.
func exported(t *testing.T) (names []string) {
	p, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range p.GoFiles {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.IsExported() {
				names = append(names, fn.Name.Name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// TestEveryFunctionIsInATable checks that no exported function is missing, so that a new system
// call is not forgotten.
func TestEveryFunctionIsInATable(t *testing.T) {
	listed := slices.Sorted(maps.Keys(refused))
	listed = append(listed, slices.Collect(maps.Keys(neverRefused))...)
	slices.Sort(listed)
	if names := exported(t); !slices.Equal(names, listed) {
		t.Errorf("the functions are\n%v\nand those in the tables\n%v", names, listed)
	}
	var ops [numOps]bool
	for _, r := range refused {
		ops[r.op] = true
	}
	if slices.Contains(ops[:], false) {
		t.Errorf("an Op without a function: %v", ops)
	}
}

// TestEveryFunctionCanBeRefused checks that an injected error for the function's Op, and for no
// other, is returned as an error that says so, and is counted as a failure and not as a call. A look
// that is refused only says that it does not know. Without an injected error there is none.
func TestEveryFunctionCanBeRefused(t *testing.T) {
	defer Inject(nil)
	const size = 64 << 10 // a multiple of every system's page
	for name, r := range refused {
		if runtime.GOOS != "linux" && (r.op == OpResident || r.op == OpAdvise || r.op == OpMove || r.op == OpPopulate) {
			continue // TestNotSupported covers these
		}
		if _, err := look(0, 0); r.op == OpResident && err != nil {
			continue // an emulator, whose answers are not believed
		}
		if name == "ReserveAt" && runtime.GOOS != "linux" && runtime.GOOS != "windows" {
			continue // TestReserveAt says so
		}
		if name == "Move" && errors.Is(moveAway(probe(t), 64<<10), ErrCannotMove) {
			continue // the system cannot
		}
		if name == "Populate" && CannotPopulate(Populate(probe(t), 64<<10)) {
			continue // a kernel before 5.14
		}
		if name == "HugePages" && HugePageMode() == "" || name == "Renew" && runtime.GOOS != "linux" {
			continue // the system refuses it anyway
		}
		addr, err := Reserve(size)
		if err == nil {
			err = Commit(addr, size)
		}
		if err != nil {
			t.Fatal(err)
		}
		for op := range numOps {
			Inject(func(o Op) error {
				if o == op {
					return ErrInjected
				}
				return nil
			})
			calls, failures := Calls(r.op), Failed()
			err := r.call(addr, size)
			Inject(nil)
			calls, failures = Calls(r.op)-calls, Failed()-failures
			injected, failed := ErrInjected, uint64(1)
			if op == OpResident {
				injected, failed = ErrNotSupported, 0
			}
			if want := op == r.op; errors.Is(err, injected) != want || want && (calls != 0 || failures != failed) || !want && (err != nil || calls == 0 || failures != 0) {
				t.Errorf("%s with %v refused: %v, %d calls and %d failures counted", name, op, err, calls, failures)
			}
			if err := Commit(addr, size); err != nil { // Withdraw took it
				t.Fatal(err)
			}
		}
		Release(addr, size)
	}
}

// probe returns a committed page of 64 KiB.
func probe(t *testing.T) mem.Addr {
	t.Helper()
	addr, err := Reserve(64 << 10)
	if err == nil {
		t.Cleanup(func() { Release(addr, 64<<10) })
		err = Commit(addr, 64<<10)
	}
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// TestErrors checks that a refusal by the system itself is returned as an error and counted, and so
// is a range that does not begin with a page.
func TestErrors(t *testing.T) {
	const size = 64 << 10
	addr, err := Reserve(2 * size)
	if err != nil {
		t.Fatal(err)
	}
	defer Release(addr, 2*size)
	// Nobody has memory there. A range that was reserved before would not do: Go's runtime may have it by now,
	// and it would lose what it keeps there.
	const nowhere = 1 << 55
	bad := map[string]mem.Addr{"is not aligned": addr + 1, "is not reserved": nowhere}
	calls := map[string]func(addr mem.Addr, size mem.Bytes) error{"MakeReadable": MakeReadable, "Commit": Commit, "Withdraw": Withdraw, "Discard": Discard}
	if !ReadableReserve { // it makes no system call
		delete(calls, "MakeReadable")
	}
	if runtime.GOOS != "linux" && runtime.GOOS != "windows" {
		delete(bad, "is not reserved") // Discard would map it
	}
	if runtime.GOOS == "linux" && discard(nowhere, size) == nil {
		delete(bad, "is not reserved") // an emulator, which takes advice and does nothing
	}
	for what, addr := range bad {
		for name, call := range calls {
			failures := Failed()
			if err := call(addr, size); err == nil {
				t.Errorf("%s of a range that %s had success", name, what)
			}
			if n := Failed() - failures; n != 1 {
				t.Errorf("%s of a range that %s: %d failures counted, want 1", name, what, n)
			}
		}
	}
}
