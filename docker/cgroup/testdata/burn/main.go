// Burn is the process in the containers of the Engine tests: it keeps one
// thread busy, holds some memory, and writes and reads a file.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	mebibytes, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	held := make([]byte, mebibytes<<20)
	for {
		for i := 0; i < len(held); i += 4096 {
			held[i]++
		}
		if len(os.Args) > 2 {
			time.Sleep(time.Hour)
		}
	}
}
