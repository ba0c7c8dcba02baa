package trace

import (
	"bytes"
	"math"
	"math/bits"
	"strings"
)

// The lines of the three formats of recordings.

// header is the first line of our format.
const header = "hakmem trace 1"

// letters has, at the number of each Kind, how a line of our format starts.
const letters = "azrgfd"

// syntax has, at the number of each Kind, a line of our format.
var syntax = [...]string{
	Malloc:     "a THREAD ID SIZE",
	Calloc:     "z THREAD ID SIZE",
	Realloc:    "r THREAD ID SIZE OLD",
	Memalign:   "g THREAD ID SIZE ALIGN",
	Free:       "f THREAD ID",
	ThreadDone: "d THREAD",
}

// parse reads a line into e. It returns "" or, if it cannot, what such a line looks like.
func (r *Reader) parse(line []byte, e *Event) (want string) {
	switch r.format {
	case Wee:
		return r.parseWee(line, e)
	case AOSP:
		return parseAOSP(cursor{rest: line}, e)
	default:
		return parseHakmem(cursor{rest: line}, e)
	}
}

func (r *Reader) parseWee(line []byte, e *Event) string {
	name, arg, _ := bytes.Cut(line, []byte("("))
	arg, closed := bytes.CutSuffix(bytes.TrimSuffix(arg, []byte(",")), []byte(")"))
	n, ok := number(arg, 10)
	ok = ok && closed
	switch {
	case string(name) == "Alloc" && ok:
		r.allocs++
		e.Kind, e.ID, e.Size = Malloc, r.allocs, n
	case string(name) == "Free" && ok && n < math.MaxUint64:
		e.Kind, e.ID = Free, n+1 // indices count from 0, and ID 0 is no block
	default:
		return "Alloc(BYTES), or Free(INDEX), with 64-bit decimal numbers"
	}
	return ""
}

func parseAOSP(c cursor, e *Event) (want string) {
	tid, ok := bytes.CutSuffix(c.next(), []byte(":"))
	thread, isNumber := number(tid, 10)
	if !ok || !isNumber || thread > math.MaxUint32 {
		return "a line that starts with a thread's number and a colon, as in 12: malloc 0x7000 16"
	}
	e.Thread = uint32(thread)
	switch string(c.next()) {
	case "malloc":
		want = "malloc 0xPOINTER SIZE"
		e.Kind, e.ID, e.Size = Malloc, c.hex(), c.dec()
	case "calloc":
		want = "calloc 0xPOINTER COUNT SIZE"
		e.Kind, e.ID = Calloc, c.hex()
		hi, lo := bits.Mul64(c.dec(), c.dec())
		if hi != 0 {
			// A program may ask for this, and must get nothing.
			lo, c.bad = math.MaxUint64, c.bad || e.ID != 0
		}
		e.Size = lo
	case "realloc":
		want = "realloc 0xNEW 0xOLD SIZE"
		e.Kind, e.ID, e.Old, e.Size = Realloc, c.hex(), c.hex(), c.dec()
	case "memalign":
		want = "memalign 0xPOINTER ALIGNMENT SIZE"
		e.Kind, e.ID, e.Align, e.Size = Memalign, c.hex(), c.dec(), c.dec()
	case "free":
		want = "free 0xPOINTER"
		e.Kind, e.ID = Free, c.hex()
	case "thread_done":
		want = "thread_done 0x0"
		e.Kind = ThreadDone
		c.hex()
	default:
		return "malloc, calloc, realloc, memalign, free or thread_done behind the thread's number"
	}
	for c.more() { // start and end times, which recorders may append
		c.dec()
	}
	if c.bad {
		return "THREAD: " + want + ", with 64-bit numbers, and nothing but numbers behind it"
	}
	return ""
}

func parseHakmem(c cursor, e *Event) string {
	letter := c.next()
	k := strings.Index(letters, string(letter))
	if k < 0 || len(letter) != 1 {
		return "a line that starts with one of the letters " + letters
	}
	e.Kind = Kind(k)
	thread := c.dec()
	e.Thread = uint32(thread)
	if e.Kind != ThreadDone {
		e.ID = c.hex()
	}
	if e.Kind < Free {
		e.Size = c.dec()
	}
	switch e.Kind {
	case Realloc:
		e.Old = c.hex()
	case Memalign:
		e.Align = c.dec()
	}
	if c.bad || c.more() || thread > math.MaxUint32 {
		return syntax[k] + ": THREAD 32 bits, SIZE and ALIGN 64 bits, decimal; ID and OLD 64 bits, hexadecimal"
	}
	return ""
}

// A cursor takes a line apart into fields, which blanks or tabs separate.
type cursor struct {
	rest []byte
	bad  bool // a field was not of the kind asked for
}

// next returns the next field, empty at the end of the line.
func (c *cursor) next() []byte {
	c.more()
	end := 0
	for end < len(c.rest) && !blank(c.rest[end]) {
		end++
	}
	field := c.rest[:end]
	c.rest = c.rest[end:]
	return field
}

// more reports whether there is another field.
func (c *cursor) more() bool {
	for len(c.rest) > 0 && blank(c.rest[0]) {
		c.rest = c.rest[1:]
	}
	return len(c.rest) > 0
}

func blank(b byte) bool { return b == ' ' || b == '\t' }

func (c *cursor) dec() uint64 {
	n, ok := number(c.next(), 10)
	c.bad = c.bad || !ok
	return n
}

// hex takes a hexadecimal number, with or without 0x in front.
func (c *cursor) hex() uint64 {
	n, ok := number(bytes.TrimPrefix(c.next(), []byte("0x")), 16)
	c.bad = c.bad || !ok
	return n
}

// number is strconv.ParseUint for bytes, without its prefixes, signs and errors.
func number(s []byte, base uint64) (n uint64, ok bool) {
	for _, b := range s {
		d := uint64(b - '0')
		if d > 9 {
			d = uint64(b|0x20-'a') + 10 // for other characters, a large number
		}
		hi, lo := bits.Mul64(n, base)
		lo, carry := bits.Add64(lo, d, 0)
		if d >= base || hi|carry != 0 {
			return 0, false
		}
		n = lo
	}
	return n, len(s) > 0
}
