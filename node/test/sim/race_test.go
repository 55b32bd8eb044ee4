//go:build race

package sim

func init() { scripts = 2 }
