// Package browser tests the page of package hakmemhttp in a real browser. It has no code of its own.
package browser
