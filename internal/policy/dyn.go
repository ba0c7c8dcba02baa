package policy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file holds the values of HAKMEM_DYN. It has no state.

// Dyn is a value of HAKMEM_DYN. What is neither DynAuto nor DynOff stands for the block sizes themselves:
// a byte for each, the first one lowest, in units of sizeclass.Step. The least such size has the byte 9.
type Dyn int

const (
	DynAuto Dyn = iota // those that the learner finds, or that a policy file has
	DynOff             // none
)

// dynBits is how many bits of a Dyn a size takes: sizes are at most 256 steps.
const dynBits = 8

// dynForm is block sizes, such as 4224,16512. The value is a Dyn.
func dynForm([]string) Form {
	return Form{
		Usage: "SIZE[,SIZE]",
		parse: func(text string) (int64, error) {
			d, err := parseDyn(text)
			if err != nil {
				return 0, fmt.Errorf("one or two block sizes such as 4224,16512: %w", err)
			}
			return int64(d), nil
		},
		text:  func(v int64) string { return Dyn(v).text() },
		check: func(v int64) error { return Dyn(v).check() },
	}
}

// parseDyn reads block sizes, separated by commas, in bytes.
func parseDyn(text string) (Dyn, error) {
	words := strings.Split(text, ",")
	if len(words) > sizeclass.NumSpare {
		return 0, fmt.Errorf("these are %d sizes: at most %d can be added", len(words), sizeclass.NumSpare)
	}
	d := Dyn(0)
	for i, word := range words {
		n, err := strconv.ParseUint(strings.TrimSpace(word), 10, 31)
		if err != nil {
			return 0, fmt.Errorf("%q is no size in bytes", word)
		}
		if err := sizeclass.Check(mem.Bytes(n)); err != nil {
			return 0, err
		}
		for _, other := range d.Sizes() {
			if other == mem.Bytes(n) {
				return 0, fmt.Errorf("%d is there twice", n)
			}
		}
		d |= Dyn(n/sizeclass.Step) << (i * dynBits)
	}
	return d, nil
}

// Sizes returns the block sizes that d names, if it does.
func (d Dyn) Sizes() (sizes []mem.Bytes) {
	if d == DynAuto || d == DynOff {
		return nil
	}
	for ; d > 0; d >>= dynBits {
		sizes = append(sizes, mem.Bytes(d&(1<<dynBits-1))*sizeclass.Step)
	}
	return sizes
}

// text returns the sizes as parseDyn reads them.
func (d Dyn) text() string {
	var words []string
	for _, size := range d.Sizes() {
		words = append(words, strconv.FormatUint(uint64(size), 10))
	}
	return strings.Join(words, ",")
}

// check returns an error if d is no value that the setting can have.
func (d Dyn) check() error {
	if d == DynAuto || d == DynOff {
		return nil
	}
	if d < 0 {
		return fmt.Errorf("%d stands for nothing", d)
	}
	_, err := parseDyn(d.text())
	return err
}
