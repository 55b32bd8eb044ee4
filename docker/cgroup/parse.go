package cgroup

import (
	"bytes"
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// parseNumber reads the files that hold one number.
func parseNumber(f file, b []byte, s *knowledge.Sample) error {
	v, err := single(b)
	if err != nil {
		return err
	}
	switch f {
	case cpuUsage: // v1: nanoseconds
		s.CPUUsage = time.Duration(v)
		s.Have |= knowledge.HasCPU
	case memoryUsage:
		s.MemoryUsage, err = size(v)
	case memoryFailures:
		s.MaxEvents = uint64(v)
	case swapFailures:
		// With no swap allowed, memory and swap together meet their limit first
		// and memory.failcnt stays where it is. Seen on Linux 6.18: neither counts
		// then, so that a MaxEvents of 0 on v1 does not prove that the limit was not met.
		if !add(&s.MaxEvents, v) {
			err = errMalformed
		}
	case cpuPeriod:
		err = setQuota(s, 0, v)
	case pidsCurrent:
		s.Pids = v
	}
	return err
}

// micros turns microseconds into a duration.
func micros(v int64) (time.Duration, bool) {
	return time.Duration(v) * time.Microsecond, v <= math.MaxInt64/int64(time.Microsecond)
}

// parseCPUStat reads cpu.stat. On v1 it holds throttling alone, in nanoseconds.
// On v2 it holds the usage too, in microseconds, and without the cpu controller
// nothing else.
func parseCPUStat(b []byte, s *knowledge.Sample, v2 bool) error {
	const usage, throttle = 1, 2 | 4 | 8
	seen := 0
	for l := (lines{rest: b}); l.next(); {
		v, good := l.number()
		fits := true
		switch string(l.key) {
		case "usage_usec":
			s.CPUUsage, fits = micros(v)
			seen |= usage
		case "nr_periods":
			s.Periods = uint64(v)
			seen |= 2
		case "nr_throttled":
			s.Throttled = uint64(v)
			seen |= 4
		case "throttled_usec":
			s.ThrottledTime, fits = micros(v)
			seen |= 8
		case "throttled_time":
			s.ThrottledTime = time.Duration(v)
			seen |= 8
		default:
			continue
		}
		if !good || !fits {
			return errMalformed
		}
	}
	switch throttling := seen & throttle; {
	case throttling == throttle && !v2:
		s.Have |= knowledge.HasThrottle
	case !v2 || seen&usage == 0 || throttling != 0 && throttling != throttle:
		return errMalformed
	case throttling == throttle:
		s.Have |= knowledge.HasCPU | knowledge.HasThrottle
	default:
		s.Have |= knowledge.HasCPU
	}
	return nil
}

// parseCPUMax reads cpu.max of v2, "max 100000" or "20000 100000", in microseconds.
func parseCPUMax(b []byte, s *knowledge.Sample) error {
	quota, period := pair(firstLine(b))
	p, ok := whole(period)
	if !ok {
		return errMalformed
	}
	if string(quota) == "max" {
		return setQuota(s, 0, p)
	}
	q, ok := whole(quota)
	if !ok || q == 0 {
		return errMalformed
	}
	return setQuota(s, q, p)
}

// parseQuotaV1 reads cpu.cfs_quota_us, after the period: -1 is no limit.
func parseQuotaV1(b []byte, s *knowledge.Sample) error {
	if s.Period <= 0 {
		return errMalformed
	}
	if string(firstLine(b)) == "-1" {
		s.Quota = 0
		return nil
	}
	v, err := single(b)
	if err != nil || v == 0 {
		return errMalformed
	}
	return setQuota(s, v, s.Period.Microseconds())
}

// setQuota stores a quota of quota µs in each period µs; 0 µs is no limit. More
// than MaxCPU becomes MaxCPU: it limits nothing that exists.
func setQuota(s *knowledge.Sample, quota, period int64) error {
	if period <= 0 || period > maxPeriod.Microseconds() {
		return errMalformed
	}
	s.Period = time.Duration(period) * time.Microsecond
	if quota > int64(knowledge.MaxCPU/knowledge.OneCPU)*period {
		s.Quota = knowledge.MaxCPU
		return nil
	}
	s.Quota = nanoCPU(quota, period)
	return nil
}

// nanoCPU is quota/period in billionths, rounded to the nearest. The period is a
// second at most, so that 4096 cores of it times 1e9 still fit.
func nanoCPU(quota, period int64) knowledge.NanoCPU {
	whole, part := quota/period, quota%period
	return knowledge.NanoCPU(whole*1e9 + (part*1e9+period/2)/period)
}

// parseEvents reads memory.events of v2.
func parseEvents(b []byte, s *knowledge.Sample) error {
	seen := 0
	for l := (lines{rest: b}); l.next(); {
		v, good := l.number()
		switch string(l.key) {
		case "high":
			s.HighEvents = uint64(v)
			seen |= 1
		case "max":
			s.MaxEvents = uint64(v)
			seen |= 2
		case "oom":
			s.OOM = uint64(v)
			seen |= 4
		case "oom_kill":
			s.OOMKills = uint64(v)
			seen |= 8
		default:
			continue
		}
		if !good {
			return errMalformed
		}
	}
	if seen != 1<<4-1 {
		return errMalformed
	}
	return nil
}

// parseOOMControl reads memory.oom_control of v1, whose oom_kill came with Linux
// 4.13. v1 does not count the times that a limit could not be met: each kill is
// taken for one.
func parseOOMControl(b []byte, s *knowledge.Sample) error {
	for l := (lines{rest: b}); l.next(); {
		if string(l.key) != "oom_kill" {
			continue
		}
		v, good := l.number()
		if !good {
			return errMalformed
		}
		s.OOMKills, s.OOM = uint64(v), uint64(v)
		return nil
	}
	return errAbsent
}

// parsePressure reads a *.pressure file. Linux before 5.13 has no "full" line
// for the CPU; its shares stay 0.
func parsePressure(b []byte, p *knowledge.Pressure) error {
	*p = knowledge.Pressure{}
	some := false
	for l := (lines{rest: b}); l.next(); {
		good := true
		switch string(l.key) {
		case "some":
			some = true
			good = averages(l.value, &p.Some10, &p.Some60, &p.Some300)
		case "full":
			var unused float64
			good = averages(l.value, &p.Full10, &p.Full60, &unused)
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

// percent reads "12.34". The kernel's averages may be a rounding above 100.
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
	for l := (lines{rest: b}); l.next(); {
		op, value := pair(l.value)
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
	for l := (lines{rest: b}); l.next(); {
		for fields := l.value; len(fields) > 0; {
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

// parseNetDev sums the bytes of all interfaces but the loopback in
// /proc/PID/net/dev: two lines of heading, then "name: rx 7×other tx …".
func parseNetDev(b []byte, s *knowledge.Sample) error {
	s.RxBytes, s.TxBytes = 0, 0
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			break
		}
		line := b[:i]
		b = b[i+1:]
		colon := bytes.LastIndexByte(line, ':')
		if colon < 0 || string(bytes.TrimLeft(line[:colon], " ")) == "lo" {
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
