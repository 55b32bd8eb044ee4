package observer

import (
	"fmt"
	"testing"
	"time"
)

// Eventually waits until cond holds; it checks 20 times a second.
func Eventually(t *testing.T, within time.Duration, what string, cond func() bool) {
	t.Helper()
	if !WaitFor(within, cond) {
		t.Fatalf("not within %v: %s", within, what)
	}
}

// WaitFor reports whether cond held in time.
func WaitFor(within time.Duration, cond func() bool) bool {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(within); ; <-tick.C {
		if cond() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// Hold checks that cond holds all the time.
func Hold(t *testing.T, during time.Duration, what string, cond func() bool) {
	t.Helper()
	if WaitFor(during, func() bool { return !cond() }) {
		t.Fatalf("did not hold for %v: %s", during, what)
	}
}

// Figure prints a measured number.
func Figure(t *testing.T, format string, args ...any) {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	t.Log(text)
	fmt.Printf("figure: %s\n", text)
}
