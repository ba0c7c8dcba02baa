package trace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"unsafe"
)

// TestOpLayout checks what the C driver's struct relies on.
func TestOpLayout(t *testing.T) {
	var op Op
	got := [...]uintptr{
		unsafe.Offsetof(op.Size), unsafe.Offsetof(op.Slot), unsafe.Offsetof(op.Seq), unsafe.Offsetof(op.Thread),
		unsafe.Offsetof(op.Kind), unsafe.Offsetof(op.Align), unsafe.Sizeof(op),
	}
	if want := [...]uintptr{0, 8, 12, 16, 20, 21, 24}; got != want {
		t.Errorf("offsets and size %v, want %v", got, want)
	}
}

// sample is a tape with something in each field.
func sample() *Tape {
	return &Tape{Threads: 2, Slots: 3, Initial: 1, PeakLive: 0x123456789b, PeakBlocks: 2, Ops: []Op{
		{Kind: Calloc, Size: 0x123456789a},
		{Kind: Memalign, Slot: 2, Thread: 1, Size: 1, Align: 21},
		{Kind: Realloc, Slot: 2, Seq: 1, Thread: 1, Size: 1},
		{Kind: Free, Seq: 1, Thread: 1},
		{Kind: Malloc, Slot: 0, Seq: 2, Size: 0},
	}}
}

func encoded(t testing.TB, tape *Tape) []byte {
	t.Helper()
	var b bytes.Buffer
	if n, err := tape.WriteTo(&b); err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteTo: %d of %d bytes, error %v", n, b.Len(), err)
	}
	return b.Bytes()
}

func TestTapeFile(t *testing.T) {
	data := encoded(t, sample())
	const want = "hakmtape\x01\x00\x00\x00\x02\x00\x00\x00" +
		"\x03\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00" +
		"\x01\x00\x00\x00\x00\x00\x00\x00\x9b\x78\x56\x34\x12\x00\x00\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\x9a\x78\x56\x34\x12\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00" +
		"\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x03\x15\x00\x00"
	if !strings.HasPrefix(string(data), want) || len(data) != 64+5*24 {
		t.Errorf("%d bytes:\n% x, want\n% x", len(data), data, want)
	}

	path := filepath.Join(t.TempDir(), "tape")
	if err := sample().Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil || !equal(got, sample()) {
		t.Errorf("loaded %+v, error %v", got, err)
	}

	if _, err := Load(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Load of no file: %v", err)
	}
	if err := sample().Save(t.TempDir()); err == nil {
		t.Error("Save to a directory: no error")
	}
	if n, err := sample().WriteTo(failing{}); n != 0 || err == nil {
		t.Errorf("WriteTo that cannot: %d, %v", n, err)
	}
	empty := &Tape{}
	if got, err := ReadTape("t", bytes.NewReader(encoded(t, empty))); err != nil || !equal(got, empty) {
		t.Errorf("empty tape: %+v, %v", got, err)
	}
}

func TestReadTapeRefuses(t *testing.T) {
	le := binary.LittleEndian
	good := encoded(t, sample())
	const op = 64 // of the first operation
	tests := []struct {
		name string
		spot func(b []byte) []byte
		want string
	}{
		{"nothing", func(b []byte) []byte { return nil }, "0 bytes: a tape has a header of 64"},
		{"half a header", func(b []byte) []byte { return b[:63] }, "63 bytes"},
		{"magic", func(b []byte) []byte { b[0] = 'H'; return b }, `starts with "Hakmtape", not "hakmtape": not a tape`},
		{"version", func(b []byte) []byte { b[8] = 2; return b }, "tape of version 2: this program reads version 1"},
		{"threads", func(b []byte) []byte { le.PutUint32(b[12:], 6); return b }, "6 threads: at most one for each of the 5 operations"},
		{"fewer threads", func(b []byte) []byte { b[12] = 1; return b }, "operation 1, a memalign: thread 1: there are 1"},
		{"slots", func(b []byte) []byte { b[16] = 81; return b }, "81 slots: at most 16 for each of the 5 operations"},
		{"many slots", func(b []byte) []byte { b[23] = 1; return b }, "72057594037927939 slots: too many"},
		{"fewer slots", func(b []byte) []byte { b[16] = 2; return b }, "operation 1, a memalign: slot 2: there are 2"},
		{"more operations", func(b []byte) []byte { b[24] = 6; return b }, "cut short: 5 of 6 operations"},
		{"many operations", func(b []byte) []byte { b[26] = 0xff; return b }, "cut short: 5 of 16711685 operations"},
		{"too many operations", func(b []byte) []byte { b[31] = 1; return b }, "operations: too many"},
		{"fewer operations", func(b []byte) []byte { b[24] = 4; return b }, "goes on behind its 4 operations"},
		{"initial", func(b []byte) []byte { b[32] = 6; return b }, "6 initial operations: there are 5 operations"},
		{"initial not allocating", func(b []byte) []byte { b[32] = 3; return b }, "operation 2, a realloc: the 3 initial operations must allocate"},
		{"peak", func(b []byte) []byte { b[40]--; return b }, "peak of 78187493530 live bytes: the operations have 78187493531"},
		{"header's pad", func(b []byte) []byte { b[63] = 1; return b }, "not zeros"},
		{"cut", func(b []byte) []byte { return b[:len(b)-1] }, "cut short: 4 of 5 operations"},
		{"longer", func(b []byte) []byte { return append(b, 0) }, "goes on behind its 5 operations"},
		{"kind", func(b []byte) []byte { b[op+20] = 5; return b }, "operation 0, a thread_done: use kinds 0 to 4"},
		{"size", func(b []byte) []byte { b[op+7] = 1; return b }, "at most 1099511627776 bytes"},
		{"align", func(b []byte) []byte { b[op+21] = 3; return b }, "operation 0, a calloc: alignment 3: must be 0"},
		{"large align", func(b []byte) []byte { b[op+24+21] = 22; return b }, "alignment 2^22: use 2^3 to 2^21 bytes"},
		{"small align", func(b []byte) []byte { b[op+24+21] = 2; return b }, "alignment 2^2"},
		{"pad", func(b []byte) []byte { b[op+23] = 1; return b }, "operation 0: padding 0x100, not 0"},
		{"seq", func(b []byte) []byte { b[op+3*24+12] = 2; return b }, "operation 3, a free: sequence number 2: the next of slot 0 is 1"},
		{"occupied", func(b []byte) []byte { b[op+2*24+20], b[op+2*24] = 0, 1; return b }, "operation 2, a malloc: slot 2 is occupied"},
		{"empty", func(b []byte) []byte { b[op+24+20], b[op+24], b[op+24+21] = 4, 0, 0; return b }, "operation 1, a free: slot 2 is empty"},
		{"free of a size", func(b []byte) []byte { b[op+3*24] = 1; return b }, "operation 3, a free: size 1: must be 0"},
		{"realloc to 0", func(b []byte) []byte { b[op+2*24] = 0; return b }, "operation 2, a realloc: size 0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := ReadTape("t", bytes.NewReader(test.spot(bytes.Clone(good))))
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "t: ") {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
	fail := errors.New("no such luck")
	for n := range int64(len(good)) {
		r := &limited{bytes.NewReader(good), n, fail}
		if _, err := ReadTape("t", r); !errors.Is(err, fail) {
			t.Fatalf("error behind %d bytes: %v, want %v", n, err, fail)
		}
	}
	if _, err := ReadTape("t", iotest.OneByteReader(bytes.NewReader(good))); err != nil {
		t.Errorf("byte by byte: %v", err)
	}
}

// limited fails after so many bytes.
type limited struct {
	r    *bytes.Reader
	left int64
	err  error
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, l.err
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

func TestCheckPeaks(t *testing.T) {
	if err := sample().Check(); err != nil {
		t.Error(err)
	}
	tape := sample()
	tape.PeakBlocks++
	if err := tape.Check(); err == nil || err.Error() != "peak of 3 live blocks: the operations have 2" {
		t.Error(err)
	}
	tape = sample()
	tape.PeakLive = 0
	if err := tape.Check(); err == nil {
		t.Error("a wrong PeakLive passes")
	}
}
