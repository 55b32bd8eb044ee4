package history

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	chunkVersion = 1
	// maxBucketBytes bounds an encoded bucket: seven fields of at most five
	// bytes each (28 bits of payload and more).
	maxBucketBytes = 7 * 5
	// maxMilli bounds cores in thousandths, maxPages sizes in 64 KiB.
	maxMilli = uint64(knowledge.MaxCPU / 1e6)
	maxPages = uint64(knowledge.MaxBytes / page)
	page     = 64 * knowledge.KiB
)

func milli(cores float64) uint64 {
	return uint64(min(math.Round(max(cores, 0)*1000), float64(maxMilli)))
}

// pages rounds up: a working set is never understated.
func pages(b knowledge.Bytes) uint64 {
	b = min(max(b, 0), knowledge.MaxBytes)
	return uint64((b + page - 1) / page)
}

// appendTo packs a bucket: how many steps it lies after the one before, then its
// figures as variable-length integers, the highest CPU as what it is above the mean.
func (s *sums) appendTo(b []byte, gap int) []byte {
	mean := milli(s.cpu / float64(s.points))
	high := max(milli(float64(s.maxCPU)), mean)
	b = binary.AppendUvarint(b, uint64(gap))
	b = binary.AppendUvarint(b, mean)
	b = binary.AppendUvarint(b, high-mean)
	b = append(b, byte(math.Round(min(float64(s.throttled), 1)*255)))
	b = binary.AppendUvarint(b, pages(s.workingSet))
	b = binary.AppendUvarint(b, milli(float64(s.cpuLimit)))
	return binary.AppendUvarint(b, pages(s.memory))
}

// Decode unpacks the chunk's buckets, oldest first. Bytes that Series does not
// write are ErrEncoding.
func (c Chunk) Decode() ([]Bucket, error) {
	if int(c.Tier) >= TierCount {
		return nil, fmt.Errorf("cannot read chunk: %w: tier %d", ErrEncoding, c.Tier)
	}
	n := c.Tier.Buckets()
	span := int64(c.Tier.Span() / time.Second)
	if len(c.Data) < 1 || c.Data[0] != chunkVersion || len(c.Data) > 1+n*maxBucketBytes ||
		c.Start < 0 || c.Start%span != 0 || c.Start > math.MaxInt64/int64(time.Second)-span {
		return nil, fmt.Errorf("cannot read chunk: %w", ErrEncoding)
	}
	var out []Bucket
	r := reader{data: c.Data[1:]}
	for at := -1; len(r.data) > 0; {
		gap := r.uint(uint64(n))
		b := Bucket{}
		mean := r.uint(maxMilli)
		high := mean + r.uint(maxMilli-min(mean, maxMilli))
		b.Throttled = float64(r.byte()) / 255
		b.WorkingSet = knowledge.Bytes(r.uint(maxPages)) * page
		b.CPULimit = float64(r.uint(maxMilli)) / 1000
		b.MemoryLimit = knowledge.Bytes(r.uint(maxPages)) * page
		at += int(gap)
		if r.bad || gap == 0 || at >= n {
			return nil, fmt.Errorf("cannot read chunk: %w: bucket %d", ErrEncoding, len(out))
		}
		b.MeanCPU, b.MaxCPU = float64(mean)/1000, float64(high)/1000
		b.At = time.Unix(c.Start, 0).Add(time.Duration(at) * c.Tier.Step())
		out = append(out, b)
	}
	return out, nil
}

// reader takes integers off the front of bytes and remembers the first fault.
type reader struct {
	data []byte
	bad  bool
}

func (r *reader) uint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 || v > limit || (n > 1 && r.data[n-1] == 0) {
		r.bad, r.data = true, nil
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *reader) byte() byte {
	if len(r.data) == 0 {
		r.bad = true
		return 0
	}
	v := r.data[0]
	r.data = r.data[1:]
	return v
}
