package trace

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
)

// FuzzReader reads whatever it is given. Events that can be read are the same after being written
// in our format, and their tape passes Check, which Compile calls.
func FuzzReader(f *testing.F) {
	const aosp = "1: malloc 0x10 20\n1: calloc 0x20 2 3 1 2\n2: realloc 0x30 0x10 40\n1: memalign 0x10 24 5\n1: free 0x0\n1: thread_done 0x0\n"
	ours := randomTrace(0, 3, 50)
	for _, s := range []string{
		"", header, "Alloc(1),\nFree(0),\nFree(0)", aosp, ours, "hakmem trace 1\nr 0 0 0 1\na 0 1 0\nr 0 1 0 1\nr 0 0 0 1\n",
		string(gzipped(f, aosp)), string(zipped(f, "trace", ours)), string(zipped(f, "1", "", "2", "")),
		"1: malloc 0xffffffffffffffff 18446744073709551615\n1: malloc 0x1 18446744073709551616", strings.Repeat("#", maxLine+2),
	} {
		f.Add([]byte(s), byte(0))
	}
	f.Add([]byte("Alloc(1)"), byte(2))
	f.Fuzz(func(t *testing.T, data []byte, o byte) {
		open := func(data []byte) *Reader {
			r, err := NewReader("t", bytes.NewReader(data))
			if err != nil {
				t.Skip(err)
			}
			return r
		}
		r := open(data)
		r.Use(Format(o) % 4)
		var written bytes.Buffer
		w := NewWriter(&written)
		var events []Event
		for len(events) < 10_000 { // a compressed file may be much longer than data
			e, err := r.Next()
			if err != nil {
				if err != io.EOF && !strings.HasPrefix(err.Error(), "t:") {
					t.Errorf("error without the file's name: %v", err)
				}
				break
			}
			if err := w.Write(e); err != nil {
				t.Fatal(err)
			}
			e.Line = 0
			events = append(events, e)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		again, err := readAll(open(written.Bytes()))
		for i := range again {
			again[i].Line = 0
		}
		if err != nil || !slices.Equal(again, events) {
			t.Errorf("events %+v read back as %+v, error %v", events, again, err)
		}
		options := CompileOptions{Threads: int(o) >> 6, MaxOps: int(o) >> 2 & 15}
		tape, err := Compile(open(written.Bytes()), options)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Summarize(open(written.Bytes()), options)
		if err != nil || s.PeakLive != tape.PeakLive || s.Threads != tape.Threads || s.Anomalies != tape.Anomalies {
			t.Errorf("summary %+v, error %v; tape %+v", s, err, tape)
		}
	})
}

// FuzzLoad reads whatever it is given as a tape. A tape that can be read passes Check and is
// written as it was.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(encoded(f, &Tape{}))
	f.Add(encoded(f, sample()))
	f.Add(encoded(f, sample())[:100])
	f.Add(encoded(f, compileText(f, randomTrace(0, 3, 50), CompileOptions{})))
	f.Fuzz(func(t *testing.T, data []byte) {
		tape, err := ReadTape("t", bytes.NewReader(data))
		if err != nil {
			return
		}
		if err := tape.Check(); err != nil {
			t.Error(err)
		}
		if got := encoded(t, tape); !bytes.Equal(got, data) {
			t.Errorf("written as\n% x, read from\n% x", got, data)
		}
	})
}

// FuzzDistribution makes small tapes of whatever distribution it is given; Tape checks them.
func FuzzDistribution(f *testing.F) {
	f.Add("8,1,1", uint64(1), byte(0))
	f.Add("size,rate,live\n8,1e18,0\n1000000,1e-300,1e18\n64,0,1\n", uint64(2), byte(2))
	f.Add(string(web), uint64(3), byte(7))
	f.Add("1,1e-320,1e-320\n", uint64(4), byte(1))
	f.Fuzz(func(t *testing.T, text string, seed uint64, threads byte) {
		d, err := ReadDistribution(strings.NewReader(text), "t")
		if err != nil {
			return
		}
		o := TapeOptions{Ops: 1000, LiveBytes: 64 << 10, Threads: int(threads)%8 + 1, Seed: seed}
		tape, err := d.Tape(o)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "t: the rates of all") {
				t.Error(err)
			}
			return
		}
		if len(tape.Ops) != tape.Initial+o.Ops {
			t.Errorf("%d operations, %d of them initial; want %d others", len(tape.Ops), tape.Initial, o.Ops)
		}
	})
}
