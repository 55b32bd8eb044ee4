package cgroup

import (
	"bytes"
	"errors"
	"math"

	"github.com/effiscale/effiscale/knowledge"
)

var (
	errMalformed = errors.New("cannot parse its content")
	errTooLong   = errors.New("it exceeds the size limit")
	// errAbsent: this kernel does not have the counter; the signal is not set, and
	// that is no fault.
	errAbsent = errors.New("this kernel does not have the counter")
)

// decimal reads the digits at the start of b. It refuses none and more than an
// int64 holds: no counter of a kernel comes near, and nothing ever wraps.
func decimal(b []byte) (v int64, rest []byte, ok bool) {
	i := 0
	for ; i < len(b); i++ {
		d := int64(b[i] - '0')
		if b[i] < '0' || b[i] > '9' {
			break
		}
		if v > (math.MaxInt64-d)/10 {
			return 0, b, false
		}
		v = v*10 + d
	}
	return v, b[i:], i > 0
}

// whole is decimal for a text that is one number and nothing else.
func whole(b []byte) (int64, bool) {
	v, rest, ok := decimal(b)
	return v, ok && len(rest) == 0
}

// single reads a file of one number.
func single(b []byte) (int64, error) {
	v, ok := whole(firstLine(b))
	if !ok {
		return 0, errMalformed
	}
	return v, nil
}

// firstLine is the text before the first newline, or all of it.
func firstLine(b []byte) []byte {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i]
	}
	return b
}

// lines walks over lines of "key value".
type lines struct {
	rest       []byte
	key, value []byte
}

// next cuts a line. A last line without its newline is a truncated one, and is
// left out: half a number is a wrong number.
func (l *lines) next() bool {
	i := bytes.IndexByte(l.rest, '\n')
	if i < 0 {
		return false
	}
	l.key, l.value = pair(l.rest[:i])
	l.rest = l.rest[i+1:]
	return true
}

// number is the line's value.
func (l *lines) number() (int64, bool) { return whole(l.value) }

// pair splits "key value".
func pair(line []byte) (key, value []byte) {
	i := bytes.IndexByte(line, ' ')
	if i < 0 {
		return line, nil
	}
	return line[:i], line[i+1:]
}

// size turns a file's number into a level of memory, which is at most what the
// largest machine has.
func size(v int64) (knowledge.Bytes, error) {
	if v > int64(knowledge.MaxBytes) {
		return 0, errMalformed
	}
	return knowledge.Bytes(v), nil
}

// limit reads a memory limit: "max", and v1's page-aligned 2^63, are none.
func limit(b []byte) (knowledge.Bytes, error) {
	line := firstLine(b)
	if string(line) == "max" {
		return 0, nil
	}
	v, ok := whole(line)
	if !ok {
		return 0, errMalformed
	}
	if v > int64(knowledge.MaxBytes) {
		return 0, nil
	}
	return knowledge.Bytes(v), nil
}

// add sums counters that must stay within an int64.
func add(sum *uint64, v int64) bool {
	*sum += uint64(v)
	return *sum <= math.MaxInt64
}
