package trace

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// readAll returns the events of a recording up to its end or its error.
func readAll(r *Reader) ([]Event, error) {
	var events []Event
	for {
		e, err := r.Next()
		if err == io.EOF {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		events = append(events, e)
	}
}

func readText(t *testing.T, text string, f Format) ([]Event, Format, error) {
	t.Helper()
	r, err := NewReader("t", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Use(f)
	events, err := readAll(r)
	return events, r.Format(), err
}

func TestReaderFormats(t *testing.T) {
	tests := []struct {
		name, text string
		format     Format
		want       []Event
	}{
		{"wee", "Alloc(552),\nAlloc(0),\nFree(1),\nFree(0)", Wee, []Event{
			{Line: 1, Kind: Malloc, ID: 1, Size: 552},
			{Line: 2, Kind: Malloc, ID: 2},
			{Line: 3, Kind: Free, ID: 2},
			{Line: 4, Kind: Free, ID: 1},
		}},
		{"wee with CRLF, comments, no comma", "\r\n# ls\r\n  Alloc(7)\r\nFree(0),\r\n", Wee, []Event{
			{Line: 3, Kind: Malloc, ID: 1, Size: 7},
			{Line: 4, Kind: Free, ID: 1},
		}},
		{"aosp", `186: malloc 0xb6038060 20
186: calloc 0xb609f080 32 4
187: realloc 0xb609f080 0xb603e9a0 12
4294967295: memalign 0xFFFFffffFFFFffff 128 400
186: free 0x0
187: thread_done 0x0
`, AOSP, []Event{
			{Line: 1, Thread: 186, Kind: Malloc, ID: 0xb6038060, Size: 20},
			{Line: 2, Thread: 186, Kind: Calloc, ID: 0xb609f080, Size: 128},
			{Line: 3, Thread: 187, Kind: Realloc, ID: 0xb609f080, Old: 0xb603e9a0, Size: 12},
			{Line: 4, Thread: 1<<32 - 1, Kind: Memalign, ID: 1<<64 - 1, Align: 128, Size: 400},
			{Line: 5, Thread: 186, Kind: Free},
			{Line: 6, Thread: 187, Kind: ThreadDone},
		}},
		{"aosp with times", "  1:\tmalloc 0x10 20 1000 1010\n1: free 0x10 1020 1030\n1: thread_done 0x0 1040\n", AOSP, []Event{
			{Line: 1, Thread: 1, Kind: Malloc, ID: 16, Size: 20},
			{Line: 2, Thread: 1, Kind: Free, ID: 16},
			{Line: 3, Thread: 1, Kind: ThreadDone},
		}},
		{"aosp calloc that could not succeed", "1: calloc 0x0 4294967296 4294967296\n", AOSP, []Event{
			{Line: 1, Thread: 1, Kind: Calloc, Size: 1<<64 - 1},
		}},
		{"hakmem", `hakmem trace 1
# comment

a 0 c000 16
z 1 c010 18446744073709551615
g 2 c020 100 4096
r 3 c030 32 c000
f 4294967295 ffffffffffffffff
d 1
`, Hakmem, []Event{
			{Line: 4, Kind: Malloc, ID: 0xc000, Size: 16},
			{Line: 5, Thread: 1, Kind: Calloc, ID: 0xc010, Size: 1<<64 - 1},
			{Line: 6, Thread: 2, Kind: Memalign, ID: 0xc020, Size: 100, Align: 4096},
			{Line: 7, Thread: 3, Kind: Realloc, ID: 0xc030, Size: 32, Old: 0xc000},
			{Line: 8, Thread: 1<<32 - 1, Kind: Free, ID: 1<<64 - 1},
			{Line: 9, Thread: 1, Kind: ThreadDone},
		}},
		{"hakmem, empty", "hakmem trace 1", Hakmem, nil},
		{"a line as long as allowed", "Alloc(1)\n#" + strings.Repeat("x", maxLine-1) + "\nFree(0)\n", Wee, []Event{
			{Line: 1, Kind: Malloc, ID: 1, Size: 1},
			{Line: 3, Kind: Free, ID: 1},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, use := range []Format{Auto, test.format} {
				got, format, err := readText(t, test.text, use)
				if err != nil || format != test.format || !slices.Equal(got, test.want) {
					t.Errorf("Use(%v): %v events %+v, error %v; want %v %+v", use, format, got, err, test.format, test.want)
				}
			}
		})
	}
}

func TestReaderMalformed(t *testing.T) {
	const ours, wee, aosp = "hakmem trace 1\n", "Alloc(1),\n", "1: free 0x0\n"
	tests := []struct {
		text string
		use  Format
		want string // part of the error
	}{
		{"", Auto, `t: nothing to read: want "Alloc(16),"`},
		{"\n# only this\n", Auto, "t: nothing to read"},
		{"", Hakmem, "t: nothing to read"},
		{"hello world\n", Auto, `t:1: "hello world": no known format`},
		{"\x7fELF\x00\x01\n", Auto, `t:1: "\x7fELF\x00\x01": no known format`},
		{"hakmem trace 2\n", Auto, `t:1: "hakmem trace 2": want "hakmem trace 1"`},
		{"hakmem trace 1 \nhakmem trace 1", Auto, `t:2: "hakmem trace 1": want a line that starts with one of the letters`},
		{"\nhakmem trace 1\n", Auto, `t:2: "hakmem trace 1": no known format`},
		{"a 0 1 2\n", Hakmem, `t:1: "a 0 1 2": want "hakmem trace 1"`},
		{wee, AOSP, `t:1: "Alloc(1),": want a line that starts with a thread's number`},
		{aosp, Wee, `t:1: "1: free 0x0": want Alloc(BYTES), or Free(INDEX),`},

		{wee + "Alloc(),\n", Auto, `t:2: "Alloc(),": want Alloc(BYTES), or Free(INDEX),`},
		{wee + "Alloc(1\n", Auto, `t:2: "Alloc(1"`},
		{wee + "Alloc(-1),\n", Auto, `t:2: "Alloc(-1),"`},
		{wee + "Alloc(18446744073709551616),\n", Auto, `t:2: "Alloc(18446744073709551616),"`},
		{wee + "Free(18446744073709551615),\n", Auto, `t:2: "Free(18446744073709551615),"`},
		{wee + "Realloc(1),\n", Auto, `t:2: "Realloc(1),"`},
		{wee + "Free 1\n", Auto, `t:2: "Free 1"`},

		{aosp + "1: malloc 0x10\n", Auto, `t:2: "1: malloc 0x10": want THREAD: malloc 0xPOINTER SIZE`},
		{aosp + "1: malloc 0x 1\n", Auto, `want THREAD: malloc`},
		{aosp + "1: malloc 0x10000000000000000 1\n", Auto, `want THREAD: malloc`},
		{aosp + "1: malloc 0x10 0x10\n", Auto, `want THREAD: malloc`},
		{aosp + "1: malloc 0x10 20 1: free 0x10\n", Auto, `want THREAD: malloc`},
		{aosp + "1: calloc 0x10 4\n", Auto, `want THREAD: calloc 0xPOINTER COUNT SIZE`},
		{aosp + "1: calloc 0x10 4294967296 4294967296\n", Auto, `want THREAD: calloc`},
		{aosp + "1: realloc 0x10 12\n", Auto, `want THREAD: realloc 0xNEW 0xOLD SIZE`},
		{aosp + "1: memalign 0x10 16\n", Auto, `want THREAD: memalign 0xPOINTER ALIGNMENT SIZE`},
		{aosp + "1: free\n", Auto, `want THREAD: free 0xPOINTER`},
		{aosp + "1: free 0x10 20 x\n", Auto, `want THREAD: free 0xPOINTER`},
		{aosp + "1: thread_done\n", Auto, `want THREAD: thread_done 0x0`},
		{aosp + "1: valloc 0x10 20\n", Auto, `want malloc, calloc, realloc, memalign, free or thread_done`},
		{aosp + "1:\n", Auto, `want malloc, calloc`},
		{aosp + "1 free 0x10\n", Auto, `want a line that starts with a thread's number and a colon`},
		{aosp + "-1: free 0x10\n", Auto, `want a line that starts with a thread's number`},
		{aosp + "4294967296: free 0x10\n", Auto, `want a line that starts with a thread's number`},

		{ours + "a 0 10\n", Auto, `t:2: "a 0 10": want a THREAD ID SIZE`},
		{ours + "a 0 10 1 1\n", Auto, `want a THREAD ID SIZE`},
		{ours + "a 4294967296 10 1\n", Auto, `want a THREAD ID SIZE`},
		{ours + "a 0 g 1\n", Auto, `want a THREAD ID SIZE`},
		{ours + "a 0 10 18446744073709551616\n", Auto, `want a THREAD ID SIZE`},
		{ours + "z 0 10\n", Auto, `want z THREAD ID SIZE`},
		{ours + "g 0 10 1\n", Auto, `want g THREAD ID SIZE ALIGN`},
		{ours + "r 0 10 1\n", Auto, `want r THREAD ID SIZE OLD`},
		{ours + "f 0\n", Auto, `want f THREAD ID`},
		{ours + "d\n", Auto, `want d THREAD`},
		{ours + "x 0\n", Auto, `want a line that starts with one of the letters azrgfd`},
		{ours + "az 0\n", Auto, `want a line that starts with one of the letters azrgfd`},

		{wee + strings.Repeat("x", 61), Auto, `t:2: "` + strings.Repeat("x", 60) + `"…: want`},
		{wee + "#" + strings.Repeat("x", maxLine) + "\n", Auto, `"…: longer than 65536 bytes`},
		{strings.Repeat("x", 1<<20), Auto, `t:1: "xxx`},
	}
	for _, test := range tests {
		_, _, err := readText(t, test.text, test.use)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.80q as %v: error %v, want one with %q", test.text, test.use, err, test.want)
		}
	}
}

// TestReaderErrorStays reads on after an error.
func TestReaderErrorStays(t *testing.T) {
	r, err := NewReader("t", strings.NewReader("Alloc(1),\nAlloc(,\nAlloc(2),\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, first := readAll(r)
	if _, again := r.Next(); first == nil || again != first {
		t.Errorf("errors %v and then %v", first, again)
	}
}

func TestReaderFailingInput(t *testing.T) {
	fail := errors.New("no such luck")
	if _, err := NewReader("t", iotest.ErrReader(fail)); !errors.Is(err, fail) {
		t.Errorf("NewReader: error %v, want %v", err, fail)
	}
	r, err := NewReader("t", io.MultiReader(strings.NewReader("Alloc(1),\nAlloc(2"), iotest.ErrReader(fail)))
	if err != nil {
		t.Fatal(err)
	}
	events, err := readAll(r)
	if len(events) != 1 || !errors.Is(err, fail) || !strings.HasPrefix(err.Error(), "t:2: ") {
		t.Errorf("%d events and the error %v, want 1 and t:2: %v", len(events), err, fail)
	}
}

func gzipped(t testing.TB, text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zipped makes a zip of pairs of names and texts.
func zipped(t testing.TB, files ...string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		w, err := z.Create(files[i])
		if err == nil {
			_, err = io.WriteString(w, files[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReaderCompressed(t *testing.T) {
	var text strings.Builder
	const events = 20_000 // more than the buffers hold
	for i := range events {
		fmt.Fprintf(&text, "Alloc(%d),\n", i)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"plain": []byte(text.String()),
		"gzip":  gzipped(t, text.String()),
		"zip":   zipped(t, "dir/", "", "dir/file", text.String()),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		r, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(r); err != nil || len(got) != events || got[events-1].Size != events-1 {
			t.Errorf("%s: %d events, error %v", name, len(got), err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: Close: %v", name, err)
		}
	}
}

func TestReaderCompressedBadly(t *testing.T) {
	text := strings.Repeat("Alloc(1),\nAlloc(22),\nFree(0),\n", 1000)
	gz, z := gzipped(t, text), zipped(t, "a", text)
	flip := func(data []byte, at int) []byte {
		data = bytes.Clone(data)
		data[at] ^= 0xff
		return data
	}
	tests := []struct {
		name string
		in   io.Reader
		want string
	}{
		{"gzip, cut", bytes.NewReader(gz[:len(gz)/2]), "gzip: unexpected EOF: the file is damaged or cut short; fetch it again"},
		{"gzip, without its sum", bytes.NewReader(gz[:len(gz)-8]), "gzip: unexpected EOF"},
		{"gzip, wrong sum", bytes.NewReader(flip(gz, len(gz)-8)), "gzip: gzip: invalid checksum"},
		{"gzip, its magic", bytes.NewReader(gz[:2]), "gzip: unexpected EOF"},
		{"gzip, wrong method", bytes.NewReader(flip(gz, 2)), "gzip: gzip: invalid header"},
		{"zip, cut", bytes.NewReader(z[:len(z)/2]), "zip: zip: not a valid zip file: the file is damaged or cut short"},
		{"zip, wrong sum", bytes.NewReader(flip(z, len(z)/4)), "zip: "},
		{"zip of none", bytes.NewReader(zipped(t)), "t: a zip of 0 files: repack it"},
		{"zip of two", bytes.NewReader(zipped(t, "a", text, "b", text)), `t: a zip of 2 files: "a", "b": repack it`},
		{"zip of many", bytes.NewReader(zipped(t, "1", "", "2", "", "3", "", "4", "", "5", "", "6", "")), `6 files: "1", "2", "3", "4", "5", …: repack it`},
		{"zip, piped", iotest.OneByteReader(bytes.NewReader(z)), "t: a zip can only be read from a file"},
	}
	for _, test := range tests {
		r, err := NewReader("t", test.in)
		if err == nil {
			_, err = readAll(r)
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
		}
	}
}

func TestOpenMissing(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("a directory is read")
	}
}

func TestParseFormat(t *testing.T) {
	for _, f := range []Format{Auto, Wee, AOSP, Hakmem} {
		if got, err := ParseFormat(f.String()); got != f || err != nil {
			t.Errorf("%v: %v, %v", f, got, err)
		}
	}
	if _, err := ParseFormat("perf"); err == nil || err.Error() != `trace format "perf": use one of auto, wee, aosp, hakmem` {
		t.Errorf("error %v", err)
	}
	if got := Format(9).String() + Kind(9).String(); got != "Format(9)Kind(9)" {
		t.Error(got)
	}
}

func TestWriter(t *testing.T) {
	events := []Event{
		{Kind: Malloc, ID: 0xabc, Size: 1<<64 - 1},
		{Thread: 7, Kind: Calloc, ID: 1, Size: 0},
		{Kind: Realloc, ID: 2, Old: 0, Size: 5},
		{Kind: Realloc, ID: 0, Old: 2, Size: 0},
		{Thread: 1<<32 - 1, Kind: Memalign, ID: 1<<64 - 1, Size: 3, Align: 64},
		{Kind: Free, ID: 1},
		{Thread: 7, Kind: ThreadDone},
	}
	const text = `hakmem trace 1
a 0 abc 18446744073709551615
z 7 1 0
r 0 2 5 0
r 0 0 0 2
g 4294967295 ffffffffffffffff 3 64
f 0 1
d 7
`
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, e := range events {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Write(Event{Kind: ThreadDone + 1}); err == nil {
		t.Error("a Kind that there is not is written")
	}
	if err := w.Flush(); err != nil || b.String() != text {
		t.Fatalf("error %v, written:\n%s", err, b.String())
	}
	got, _, err := readText(t, text, Auto)
	for i := range got {
		got[i].Line = 0
	}
	if err != nil || !slices.Equal(got, events) {
		t.Errorf("read back: %+v, error %v", got, err)
	}
	if err := NewWriter(failing{}).Flush(); err != io.ErrShortWrite {
		t.Errorf("Flush: error %v", err)
	}
}

// failing takes no bytes.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, nil }

// TestAt: comments say when the events after them took place. Other ones say nothing.
func TestAt(t *testing.T) {
	const text = header + "\na 0 1 16\n# at 5\n#at 6\n# at x\n# at -7\n# at 18446744073709551616\n# at 9223372036855\nf 0 1\n# at 1500 \na 0 2 16\n# at 99\n"
	r, err := NewReader("t", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []time.Duration{0, 5 * time.Millisecond, 1500 * time.Millisecond, 99 * time.Millisecond} {
		e, err := r.Next()
		if r.At() != want || err != nil && err != io.EOF {
			t.Errorf("line %d: at %v, want %v; %v", e.Line, r.At(), want, err)
		}
	}
}
