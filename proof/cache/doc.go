// Package cache proves hakmem's package cache against a map: a test draws operations at random.
package cache
