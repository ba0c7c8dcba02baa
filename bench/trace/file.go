package trace

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
)

// The file of a tape: writing and reading it.

// The layout of a tape's file, in bytes; docs/traces.md has the fields.
const (
	magic      = "hakmtape"
	version    = 1
	headerSize = 64
	opSize     = 24
)

// Save writes the tape to a file, whatever was there. Errors are the system's.
func (t *Tape) Save(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := t.WriteTo(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// WriteTo writes the tape as Save does. It returns the number of bytes that w took.
func (t *Tape) WriteTo(w io.Writer) (int64, error) {
	count := &counter{w: w}
	out := bufio.NewWriterSize(count, 64<<10)
	le := binary.LittleEndian
	var h [headerSize]byte
	copy(h[:], magic)
	le.PutUint32(h[8:], version)
	le.PutUint32(h[12:], uint32(t.Threads))
	le.PutUint64(h[16:], uint64(t.Slots))
	le.PutUint64(h[24:], uint64(len(t.Ops)))
	le.PutUint64(h[32:], uint64(t.Initial))
	le.PutUint64(h[40:], t.PeakLive)
	out.Write(h[:]) // its error is Flush's
	for _, op := range t.Ops {
		var b [opSize]byte
		le.PutUint64(b[0:], op.Size)
		le.PutUint32(b[8:], op.Slot)
		le.PutUint32(b[12:], op.Seq)
		le.PutUint32(b[16:], op.Thread)
		b[20], b[21] = byte(op.Kind), op.Align
		if _, err := out.Write(b[:]); err != nil {
			return count.n, err
		}
	}
	err := out.Flush()
	return count.n, err
}

// A counter counts the bytes that w takes.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Load reads the tape that Save wrote to a file. Errors are the system's, or those of ReadTape.
func Load(path string) (*Tape, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return readTape(path, f, info.Size()/opSize)
}

// ReadTape reads a tape to the end of r; the name is for messages. Input that is not a tape of this
// version, or does not pass Check, is an error. Memory grows with the bytes read, whatever the
// header promises.
func ReadTape(name string, r io.Reader) (*Tape, error) {
	return readTape(name, r, 0)
}

// readTape is ReadTape of a file that has room for that many operations.
func readTape(name string, r io.Reader, room int64) (*Tape, error) {
	t, err := decode(bufio.NewReaderSize(r, 64<<10), room)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; compile the tape anew", name, err)
	}
	return t, nil
}

func decode(in *bufio.Reader, room int64) (*Tape, error) {
	var h [headerSize]byte
	if n, err := io.ReadFull(in, h[:]); err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("%d bytes: a tape has a header of %d", n, headerSize)
	} else if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if got := string(h[:8]); got != magic {
		return nil, fmt.Errorf("starts with %q, not %q: not a tape", got, magic)
	}
	if got := le.Uint32(h[8:]); got != version {
		return nil, fmt.Errorf("tape of version %d: this program reads version %d", got, version)
	}
	threads, slots, ops, initial := le.Uint32(h[12:]), le.Uint64(h[16:]), le.Uint64(h[24:]), le.Uint64(h[32:])
	// Seq and Slot have 32 bits; Check has the narrower bounds.
	for _, n := range []struct {
		what string
		v    uint64
	}{{"threads", uint64(threads)}, {"slots", slots}, {"operations", ops}, {"initial operations", initial}} {
		if n.v > math.MaxUint32 || n.v > math.MaxInt {
			return nil, fmt.Errorf("%d %s: too many", n.v, n.what)
		}
	}
	if [headerSize - 48]byte(h[48:]) != [headerSize - 48]byte{} {
		return nil, fmt.Errorf("header ends with % x, not zeros", h[48:])
	}
	t := &Tape{Threads: int(threads), Slots: int(slots), Initial: int(initial), PeakLive: le.Uint64(h[40:])}
	t.Ops = make([]Op, 0, min(ops, uint64(room)))
	for i := range ops {
		var b [opSize]byte
		if _, err := io.ReadFull(in, b[:]); err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil, fmt.Errorf("cut short: %d of %d operations", i, ops)
		} else if err != nil {
			return nil, err
		}
		if pad := le.Uint16(b[22:]); pad != 0 {
			return nil, fmt.Errorf("operation %d: padding %#x, not 0", i, pad)
		}
		t.Ops = append(t.Ops, Op{
			Size: le.Uint64(b[0:]), Slot: le.Uint32(b[8:]), Seq: le.Uint32(b[12:]),
			Thread: le.Uint32(b[16:]), Kind: Kind(b[20]), Align: b[21],
		})
	}
	if _, err := in.ReadByte(); err == nil {
		return nil, fmt.Errorf("goes on behind its %d operations", ops)
	} else if err != io.EOF {
		return nil, err
	}
	peak, blocks, err := t.measure()
	if err != nil {
		return nil, err
	}
	t.PeakBlocks = blocks // not in the file
	if t.PeakLive != peak {
		return nil, fmt.Errorf("peak of %d live bytes: the operations have %d", t.PeakLive, peak)
	}
	return t, nil
}
