package cgroup

import (
	"bytes"
	"math"

	"github.com/effiscale/effiscale/knowledge"
)

// parseMemoryStatV1 reads memory.stat of v1. The total_ lines hold the cgroup
// and its children, which is what its limit is held against. Kernel memory is a
// file of its own there, deprecated since Linux 5.16: it stays 0.
func parseMemoryStatV1(b []byte, s *knowledge.Sample) error {
	const anon, inactive = 1, 2
	seen := 0
	var refaults [2]int64 // one line until Linux 5.8, then anon and file apart
	for line, rest, ok := nextLine(b); ok; line, rest, ok = nextLine(rest) {
		key, value := pair(line)
		if !bytes.HasPrefix(key, []byte("total_")) {
			continue
		}
		v, good := whole(value)
		b, err := size(v)
		switch string(key[len("total_"):]) {
		case "rss":
			s.Anon = b
			seen |= anon
		case "cache":
			s.File = b
		case "inactive_file":
			s.InactiveFile = b
			seen |= inactive
		case "shmem":
			s.Shmem = b
		case "unevictable":
			s.Unevictable = b
		case "workingset_refault", "workingset_refault_file":
			refaults[0], err = v, nil
		case "workingset_refault_anon":
			refaults[1], err = v, nil
		default:
			continue
		}
		if !good || err != nil {
			return errMalformed
		}
	}
	s.Refaults = uint64(refaults[0]) + uint64(refaults[1])
	if seen != anon|inactive {
		return errMalformed
	}
	return nil
}

// parseMemoryStatV2 reads memory.stat of v2. Linux before 5.18 has no "kernel"
// line; its largest parts are added up then.
func parseMemoryStatV2(b []byte, s *knowledge.Sample) error {
	const anon, inactive, kernel = 1, 2, 4
	seen := 0
	var refaults [2]int64
	var parts [3]knowledge.Bytes
	for line, rest, ok := nextLine(b); ok; line, rest, ok = nextLine(rest) {
		key, value := pair(line)
		v, good := whole(value)
		b, err := size(v)
		switch string(key) {
		case "anon":
			s.Anon = b
			seen |= anon
		case "file":
			s.File = b
		case "inactive_file":
			s.InactiveFile = b
			seen |= inactive
		case "shmem":
			s.Shmem = b
		case "unevictable":
			s.Unevictable = b
		case "kernel":
			s.Kernel = b
			seen |= kernel
		case "slab":
			parts[0] = b
		case "kernel_stack":
			parts[1] = b
		case "pagetables":
			parts[2] = b
		case "workingset_refault", "workingset_refault_file":
			refaults[0], err = v, nil
		case "workingset_refault_anon":
			refaults[1], err = v, nil
		default:
			continue
		}
		if !good || err != nil {
			return errMalformed
		}
	}
	if seen&kernel == 0 {
		s.Kernel = parts[0] + parts[1] + parts[2]
	}
	s.Refaults = uint64(refaults[0]) + uint64(refaults[1])
	if seen&(anon|inactive) != anon|inactive {
		return errMalformed
	}
	return nil
}

// parsePressure reads a *.pressure file. Linux before 5.13 has no "full" line
// for the CPU; its shares stay 0.
func parsePressure(b []byte, p *knowledge.Pressure) error {
	*p = knowledge.Pressure{}
	some := false
	for line, rest, ok := nextLine(b); ok; line, rest, ok = nextLine(rest) {
		key, value := pair(line)
		good := true
		switch string(key) {
		case "some":
			some = true
			good = averages(value, &p.Some10, &p.Some60, &p.Some300)
		case "full":
			var unused float64
			good = averages(value, &p.Full10, &p.Full60, &unused)
		}
		if !good {
			return errMalformed
		}
	}
	if !some {
		return errMalformed
	}
	return nil
}

// averages reads "avg10=0.00 avg60=0.00 avg300=0.00 total=0".
func averages(b []byte, avg10, avg60, avg300 *float64) bool {
	seen := 0
	for len(b) > 0 {
		var field []byte
		field, b = pair(b)
		key, value, _ := bytes.Cut(field, []byte("="))
		var ok bool
		switch string(key) {
		case "avg10":
			*avg10, ok = percent(value)
			seen |= 1
		case "avg60":
			*avg60, ok = percent(value)
			seen |= 2
		case "avg300":
			*avg300, ok = percent(value)
			seen |= 4
		default:
			continue
		}
		if !ok {
			return false
		}
	}
	return seen == 1|2|4
}

// percent reads "12.34". The kernel's averages may stand a rounding above 100.
func percent(b []byte) (float64, bool) {
	v, rest, ok := decimal(b)
	if !ok || v > 100 {
		return 0, false
	}
	f := float64(v)
	if len(rest) > 0 {
		if rest[0] != '.' || len(rest) > 7 {
			return 0, false
		}
		part, ok := whole(rest[1:])
		if !ok {
			return 0, false
		}
		f += float64(part) / math.Pow10(len(rest)-1)
	}
	return min(f, 100), true
}

// parseIOV1 sums blkio.throttle.io_service_bytes_recursive: "8:0 Read 4096". A
// kernel that starts accounting with the first limit (6.10 and later) lists no
// device, which is not the same as no traffic.
func parseIOV1(b []byte, s *knowledge.Sample) error {
	s.ReadBytes, s.WriteBytes = 0, 0
	devices := false
	for line, rest, ok := nextLine(b); ok; line, rest, ok = nextLine(rest) {
		_, op := pair(line)
		op, value := pair(op)
		sum := &s.ReadBytes
		switch string(op) {
		case "Read":
		case "Write":
			sum = &s.WriteBytes
		default:
			continue
		}
		v, good := whole(value)
		if !good || !add(sum, v) {
			return errMalformed
		}
		devices = true
	}
	if !devices {
		return errAbsent
	}
	return nil
}

// parseIOV2 sums io.stat: "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 …". Stacked
// devices (a mapper over a disk) count twice, as in every reader of this file.
func parseIOV2(b []byte, s *knowledge.Sample) error {
	s.ReadBytes, s.WriteBytes = 0, 0
	for line, rest, ok := nextLine(b); ok; line, rest, ok = nextLine(rest) {
		_, fields := pair(line)
		for len(fields) > 0 {
			var field []byte
			field, fields = pair(fields)
			sum := &s.ReadBytes
			value, ok := bytes.CutPrefix(field, []byte("rbytes="))
			if !ok {
				if value, ok = bytes.CutPrefix(field, []byte("wbytes=")); !ok {
					continue
				}
				sum = &s.WriteBytes
			}
			v, good := whole(value)
			if !good || !add(sum, v) {
				return errMalformed
			}
		}
	}
	return nil
}

// add sums counters that must stay within an int64.
func add(sum *uint64, v int64) bool {
	*sum += uint64(v)
	return *sum <= math.MaxInt64
}

// parseNetDev sums the bytes of all interfaces but the loopback in
// /proc/PID/net/dev: two lines of heading, then "name: rx 7×other tx …".
func parseNetDev(b []byte, s *knowledge.Sample) error {
	s.RxBytes, s.TxBytes = 0, 0
	for line, rest, ok := nextLine(b); ok; line, rest, ok = nextLine(rest) {
		colon := bytes.LastIndexByte(line, ':')
		if colon < 0 {
			continue
		}
		if string(bytes.TrimLeft(line[:colon], " ")) == "lo" {
			continue
		}
		fields := line[colon+1:]
		for i := 0; i <= 8; i++ {
			var v int64
			var good bool
			v, fields, good = decimal(bytes.TrimLeft(fields, " "))
			good = good && (len(fields) == 0 || fields[0] == ' ')
			if !good || (i == 0 && !add(&s.RxBytes, v)) || (i == 8 && !add(&s.TxBytes, v)) {
				return errMalformed
			}
		}
	}
	return nil
}
