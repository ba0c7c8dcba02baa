package engine

import (
	"runtime"
	"strings"
)

// publicPrefix begins the name of every function of the public package, enginePrefix that
// of every function of this one. They are read off the name of a function, so that they are
// right in a fork and in a vendored copy, too.
var publicPrefix, enginePrefix = ownPrefixes(thisFunction())

func thisFunction() string {
	pc, _, _, _ := runtime.Caller(0)
	return runtime.FuncForPC(pc).Name()
}

// ownPrefixes returns these prefixes, given the name of a function of this package. The
// public package is the one in whose folder internal/engine this package lies. Where the
// name does not show such a folder (a tool that makes names unreadable may have been at
// work) its prefix is "": any function may be the public package's.
func ownPrefixes(function string) (public, engine string) {
	slash := strings.LastIndexByte(function, '/') + 1
	name, _, _ := strings.Cut(function[slash:], ".")
	path := function[:slash] + name
	root, ok := strings.CutSuffix(path, "/internal/engine")
	if !ok {
		return "", path + "."
	}
	// In the last element of a path, and nowhere else, the linker writes a dot as %2e.
	slash = strings.LastIndexByte(root, '/') + 1
	return root[:slash] + strings.ReplaceAll(root[slash:], ".", "%2e") + ".", path + "."
}

// Own reports whether a function, by its name, belongs to the public package or to this one.
func Own(function string) bool {
	return strings.HasPrefix(function, publicPrefix) || strings.HasPrefix(function, enginePrefix)
}
