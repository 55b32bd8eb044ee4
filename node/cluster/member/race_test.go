//go:build race

package member

func init() { kills = 8 }
