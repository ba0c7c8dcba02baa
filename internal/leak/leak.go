// Package leak is what reports of live blocks have in common: the walk over the blocks, and the text that says how
// many there are and where they were allocated.
package leak

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
)

// Walk calls f for each live block. f must not keep the LiveBlock. No lock is held while f runs.
func Walk(f func(*engine.LiveBlock)) {
	var blocks []engine.LiveBlock
	for at, more := engine.WalkAt(0), true; more; {
		blocks, at, more = engine.LiveFrom(at, blocks[:0])
		for i := range blocks {
			f(&blocks[i])
		}
	}
}

// Key returns a string that is the same for equal stacks only.
func Key(stack []uintptr) string {
	key := make([]byte, 0, 8*len(stack))
	for _, pc := range stack {
		key = binary.NativeEndian.AppendUint64(key, uint64(pc))
	}
	return string(key)
}

// Count says how many blocks there are, of how many bytes.
func Count(blocks int64, bytes mem.Bytes) string {
	if blocks == 1 {
		return fmt.Sprintf("1 block of %d bytes", bytes)
	}
	return fmt.Sprintf("%d blocks of %d bytes together", blocks, bytes)
}

// Frames returns the frames of a stack, innermost first; none of an empty one.
func Frames(stack []uintptr) (frames []runtime.Frame) {
	if len(stack) == 0 {
		return nil
	}
	next := runtime.CallersFrames(stack)
	for {
		f, more := next.Next()
		frames = append(frames, f)
		if !more {
			return frames
		}
	}
}

// ends are the functions in which every goroutine ends, of a test or of a program. They say nothing.
var ends = map[string]bool{"testing.tRunner": true, "runtime.main": true, "runtime.goexit": true}

// StackText returns two lines for each function of a stack: its name, and its file and line. unknown is what it
// returns for an empty stack, as a line.
func StackText(stack []uintptr, unknown string) string {
	if len(stack) == 0 {
		return "    " + unknown + "\n"
	}
	var s strings.Builder
	for i, f := range Frames(stack) {
		if i > 0 && ends[f.Function] {
			break
		}
		fmt.Fprintf(&s, "    %s\n        %s:%d\n", f.Function, f.File, f.Line)
	}
	return s.String()
}
