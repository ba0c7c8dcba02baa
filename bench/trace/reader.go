package trace

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"
)

// Reading a recording: files, compression, lines. A Reader belongs to its caller; it has no lock.

// maxLine is the longest line, in bytes, that is read. The lines of the three formats have fewer
// than 150; a longer one belongs to a file of something else.
const maxLine = 64 << 10

// quoted is how much of a bad line an error shows, in characters.
const quoted = 60

// A Reader reads the events of a recording, one at a time: it holds one line.
type Reader struct {
	name   string
	in     *bufio.Reader
	close  []io.Closer // the things that Close closes, in this order
	packed string      // "gzip" or "zip" where the file is compressed
	format Format
	line   int
	at     time.Duration
	allocs uint64 // Wee: index of the next block
	err    error  // of the last Next; returned ever after
}

// Open opens the recording of that file, which may be a gzip or a zip that holds one file. Errors
// are the system's, or those of NewReader.
func Open(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r, err := NewReader(path, f)
	if err != nil {
		f.Close()
		return nil, err
	}
	r.close = append(r.close, f)
	return r, nil
}

// NewReader returns a Reader of the contents of src: text, a gzip or a zip. It recognises them by
// their first bytes. A zip's directory is at its end: src must then be an io.ReaderAt and an
// io.Seeker, as files are, and must be that zip from its start. The name is for messages. It is an
// error if src cannot be read, or if a zip does not hold exactly one file.
func NewReader(name string, src io.Reader) (*Reader, error) {
	r := &Reader{name: name, in: bufio.NewReaderSize(src, maxLine+1)}
	magic, err := r.in.Peek(4)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	switch {
	case bytes.HasPrefix(magic, []byte("\x1f\x8b")):
		r.packed = "gzip"
		z, err := gzip.NewReader(r.in)
		if err != nil {
			return nil, r.damaged(err)
		}
		r.in = bufio.NewReaderSize(z, maxLine+1)
	case bytes.HasPrefix(magic, []byte("PK\x03\x04")), bytes.HasPrefix(magic, []byte("PK\x05\x06")):
		r.packed = "zip"
		z, err := r.openZip(src)
		if err != nil {
			return nil, err
		}
		r.close = append(r.close, z)
		r.in = bufio.NewReaderSize(z, maxLine+1)
	}
	return r, nil
}

func (r *Reader) openZip(src io.Reader) (io.ReadCloser, error) {
	file, ok := src.(interface {
		io.ReaderAt
		io.Seeker
	})
	if !ok {
		return nil, fmt.Errorf("%s: a zip can only be read from a file: save it first, or unpack it on the way", r.name)
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("%s: a zip can only be read from a file: save it first, or unpack it on the way: %w", r.name, err)
	}
	dir, err := zip.NewReader(file, size)
	if err != nil {
		return nil, r.damaged(err)
	}
	var files []*zip.File
	for _, f := range dir.File {
		if f.Mode().IsRegular() {
			files = append(files, f)
		}
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("%s: a zip of %s: repack it with the one recording to be read", r.name, list(files))
	}
	z, err := files[0].Open()
	if err != nil {
		return nil, r.damaged(err)
	}
	return z, nil
}

// list names the files, or at least the first few.
func list(files []*zip.File) string {
	const most = 5 // as many as fit a line
	var s strings.Builder
	fmt.Fprintf(&s, "%d files", len(files))
	for i, f := range files {
		switch {
		case i == most:
			s.WriteString(", …")
			return s.String()
		case i == 0:
			s.WriteString(": ")
		default:
			s.WriteString(", ")
		}
		fmt.Fprintf(&s, "%.*q", quoted, f.Name)
	}
	return s.String()
}

// Use says which format the recording is in, instead of recognising it. It must be called before
// the first Next.
func (r *Reader) Use(f Format) { r.format = f }

// Format returns the format. From the first Next on it is the one that was recognised.
func (r *Reader) Format() Format { return r.format }

// Close closes the file that Open opened.
func (r *Reader) Close() error {
	var errs []error
	for _, c := range r.close {
		errs = append(errs, c.Close())
	}
	r.close = nil
	return errors.Join(errs...)
}

// Next returns the next event, or io.EOF after the last one. A line that does not follow the format
// is an error that names the file and the line, and so is a compressed file that is damaged or cut
// short. After an error Next returns the same error again.
func (r *Reader) Next() (Event, error) {
	if r.err != nil {
		return Event{}, r.err
	}
	e, err := r.next()
	if err != nil {
		r.err = err
		return Event{}, err
	}
	return e, nil
}

func (r *Reader) next() (Event, error) {
	for {
		line, err := r.readLine()
		if err != nil {
			if err == io.EOF && (r.format == Auto || r.format == Hakmem && r.line == 0) {
				err = fmt.Errorf("%s: nothing to read: %s", r.name, anyFormat)
			}
			return Event{}, err
		}
		if r.line == 1 && (r.format == Hakmem || r.format == Auto && bytes.HasPrefix(line, []byte("hakmem trace"))) {
			if string(line) != header {
				return Event{}, r.malformed(line, fmt.Sprintf("want %q: the version of hakmem that wrote it can read it", header))
			}
			r.format = Hakmem
			continue
		}
		if len(line) == 0 || line[0] == '#' {
			r.noteTime(line)
			continue
		}
		if r.format == Auto {
			if r.format = recognise(line); r.format == Auto {
				return Event{}, r.malformed(line, "no known format: "+anyFormat)
			}
		}
		e := Event{Line: r.line}
		if want := r.parse(line, &e); want != "" {
			return Event{}, r.malformed(line, "want "+want)
		}
		return e, nil
	}
}

// noteTime reads a comment that says a time. Any other one is skipped.
func (r *Reader) noteTime(line []byte) {
	if text, ok := bytes.CutPrefix(line, []byte(TimeComment)); ok {
		if ms, ok := number(text, 10); ok && ms <= math.MaxInt64/uint64(time.Millisecond) {
			r.at = time.Duration(ms) * time.Millisecond
		}
	}
}

// TimeComment is how a comment begins that says when the events after it took place. Behind it is a number
// of milliseconds since the start, in decimal.
const TimeComment = "# at "

// At returns when the event that Next returned last took place: what the last comment with a time before it
// said, or 0 if there was none. After the last event it is what the last such comment says.
func (r *Reader) At() time.Duration { return r.at }

const anyFormat = `want "Alloc(16)," or "12: malloc 0x7000 16" or, in line 1, "` + header + `"`

// recognise returns the format of a recording with a line that starts like this, or Auto. Ours is
// recognised by its header.
func recognise(line []byte) Format {
	if bytes.HasPrefix(line, []byte("Alloc(")) || bytes.HasPrefix(line, []byte("Free(")) {
		return Wee
	}
	if tid, _, ok := bytes.Cut(line, []byte(":")); ok {
		if _, ok := number(tid, 10); ok {
			return AOSP
		}
	}
	return Auto
}

// readLine returns the next line without white space around it. It is valid until the next call.
func (r *Reader) readLine() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	if err == io.EOF && len(line) > 0 {
		err = nil // the last line lacks its newline
	}
	switch {
	case err == io.EOF:
		return nil, err
	case err == bufio.ErrBufferFull:
		r.line++
		return nil, r.malformed(line, fmt.Sprintf("longer than %d bytes: not a recording in text", maxLine))
	case err != nil:
		return nil, r.damaged(err)
	}
	r.line++
	return bytes.TrimSpace(line), nil
}

func (r *Reader) malformed(line []byte, problem string) error {
	text, more := line, ""
	if len(text) > quoted {
		text, more = text[:quoted], "…"
	}
	return fmt.Errorf("%s:%d: %q%s: %s", r.name, r.line, text, more, problem)
}

// damaged wraps an error of the input; its line is the one after the last line read.
func (r *Reader) damaged(err error) error {
	if r.packed == "" {
		return fmt.Errorf("%s:%d: %w", r.name, r.line+1, err)
	}
	return fmt.Errorf("%s:%d: %s: %w: the file is damaged or cut short; fetch it again", r.name, r.line+1, r.packed, err)
}
