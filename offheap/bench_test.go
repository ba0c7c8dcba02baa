package offheap_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/hakmem/hakmem/offheap"
)

// BenchmarkBuffer fills a new buffer with a mebibyte, reads it, and gives it up.
func BenchmarkBuffer(b *testing.B) {
	const size = 1 << 20
	for _, piece := range []int{10, 1000, 100_000} {
		p := text(piece)
		run := func(name string, fill func() io.WriterTo, release func(io.WriterTo)) {
			b.Run(fmt.Sprintf("%s/%d", name, piece), func(b *testing.B) {
				b.SetBytes(size)
				b.ReportAllocs()
				for b.Loop() {
					w := fill()
					w.WriteTo(io.Discard)
					release(w)
				}
			})
		}
		run("offheap", func() io.WriterTo {
			w := new(offheap.Buffer)
			for n := 0; n < size; n += piece {
				w.Write(p)
			}
			return w
		}, func(w io.WriterTo) { w.(*offheap.Buffer).Release() })
		run("bytes", func() io.WriterTo {
			w := new(bytes.Buffer)
			for n := 0; n < size; n += piece {
				w.Write(p)
			}
			return w
		}, func(io.WriterTo) {})
	}
}

// BenchmarkNewBuffer makes a buffer for a few bytes.
func BenchmarkNewBuffer(b *testing.B) {
	p := text(100)
	b.Run("offheap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w := new(offheap.Buffer)
			w.Write(p)
			w.Release()
		}
	})
	b.Run("offheap, stacks recorded", func(b *testing.B) {
		defer offheap.RecordStacks(offheap.RecordStacks(true))
		b.ReportAllocs()
		for b.Loop() {
			w := new(offheap.Buffer)
			w.Write(p)
			w.Release()
		}
	})
	b.Run("offheap, used again", func(b *testing.B) {
		b.ReportAllocs()
		w := new(offheap.Buffer)
		for b.Loop() {
			w.Write(p)
			w.Release()
		}
	})
	b.Run("bytes", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w := new(bytes.Buffer)
			w.Write(p)
		}
	})
}

// BenchmarkIntern finds strings that are there, by all goroutines, and adds new ones.
func BenchmarkIntern(b *testing.B) {
	const many = 1 << 16
	words := make([]string, many)
	for i := range words {
		words[i] = fmt.Sprint("word number ", i)
	}
	b.Run("found", func(b *testing.B) {
		in := offheap.NewInterner()
		defer in.Close()
		for _, w := range words {
			in.Intern(w)
		}
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				in.Intern(words[i%many])
			}
		})
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			in := offheap.NewInterner()
			for _, w := range words {
				in.Intern(w)
			}
			in.Close()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/many, "ns/string")
	})
}
