// Burn is what runs in the containers of the Engine tests.
//
//	burn hold MIB   keeps one thread and so much memory busy
//	burn oom MIB    starts a child that takes so much, again and again
package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fatal("burn hold|oom MIB")
	}
	size, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fatal(err)
	}
	switch os.Args[1] {
	case "hold":
		held := make([]byte, size<<20)
		for {
			for i := 0; i < len(held); i += 4096 {
				held[i]++
			}
		}
	case "oom":
		for {
			// The kernel kills the child, which is by far the larger one.
			if err := exec.Command(os.Args[0], "hold", os.Args[2]).Run(); err != nil {
				fmt.Println(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	default:
		fatal("burn hold|oom MIB")
	}
}

func fatal(v any) {
	fmt.Fprintln(os.Stderr, v)
	os.Exit(2)
}
