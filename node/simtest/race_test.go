//go:build race

package simtest

func init() { scripts = 2 }
