package trace

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
)

// Writing a recording in our format.

// A Writer writes events in our format.
type Writer struct {
	out  *bufio.Writer
	line []byte
}

// NewWriter returns a Writer to w that has written the header. Call Flush at the end.
func NewWriter(w io.Writer) *Writer {
	out := bufio.NewWriterSize(w, maxLine)
	out.WriteString(header + "\n") // an error stays with out until Flush
	return &Writer{out: out}
}

// Write writes one event, without its Line. Errors are those of the underlying writer, or an
// unknown Kind.
func (w *Writer) Write(e Event) error {
	if e.Kind > ThreadDone {
		return fmt.Errorf("event of %v: use Malloc to ThreadDone", e.Kind)
	}
	b := append(w.line[:0], letters[e.Kind], ' ')
	b = strconv.AppendUint(b, uint64(e.Thread), 10)
	if e.Kind != ThreadDone {
		b = strconv.AppendUint(append(b, ' '), e.ID, 16)
	}
	if e.Kind < Free {
		b = strconv.AppendUint(append(b, ' '), e.Size, 10)
	}
	switch e.Kind {
	case Realloc:
		b = strconv.AppendUint(append(b, ' '), e.Old, 16)
	case Memalign:
		b = strconv.AppendUint(append(b, ' '), e.Align, 10)
	}
	w.line = append(b, '\n')
	_, err := w.out.Write(w.line)
	return err
}

// Flush writes out the buffered bytes, and returns the first error that any write had.
func (w *Writer) Flush() error { return w.out.Flush() }
