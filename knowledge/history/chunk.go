package history

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// chunkVersion 2 has demand and the count of containers, 1 has not.
	chunkVersion, firstVersion = 2, 1
	// maxBucketBytes bounds an encoded bucket: ten fields of at most five
	// bytes each (28 bits of payload and more).
	maxBucketBytes = 10 * 5
	maxContainers  = 1 << 20
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

// appendTo packs a bucket: its distance from the one before in steps, then its
// figures as variable-length integers, most as the difference from another one.
func (b *Bucket) appendTo(to []byte, gap int) []byte {
	mean := milli(b.MeanCPU)
	high := max(milli(b.MaxCPU), mean)
	to = binary.AppendUvarint(to, uint64(gap))
	to = binary.AppendUvarint(to, mean)
	to = binary.AppendUvarint(to, high-mean)
	to = append(to, byte(math.Round(min(b.Throttled, 1)*255)))
	to = binary.AppendUvarint(to, pages(b.WorkingSet))
	to = binary.AppendUvarint(to, milli(b.CPULimit))
	to = binary.AppendUvarint(to, pages(b.MemoryLimit))
	demand := max(milli(b.MeanDemand), mean)
	to = binary.AppendUvarint(to, demand-mean)
	least := max(high, demand)
	to = binary.AppendUvarint(to, max(milli(b.MaxDemand), least)-least)
	return binary.AppendUvarint(to, uint64(min(max(b.Containers, 1), maxContainers)))
}

// bucket is what the sums are of.
func (s *sums) bucket() Bucket {
	return Bucket{
		MeanCPU: s.cpu / s.seconds, MaxCPU: float64(s.maxCPU), MeanDemand: s.demand / s.seconds,
		MaxDemand: float64(s.maxDemand),
		Throttled: float64(s.throttled), WorkingSet: s.workingSet, CPULimit: float64(s.cpuLimit), MemoryLimit: s.memory,
		Containers: s.containers,
	}
}

// encode packs buckets of one chunk, oldest first.
func encode(start int64, tier Tier, buckets []Bucket) []byte {
	to := []byte{chunkVersion}
	last := -1
	for i := range buckets {
		at := int((buckets[i].At.Unix() - start) / int64(tier.Step()/time.Second))
		to = buckets[i].appendTo(to, at-last)
		last = at
	}
	return to
}

// Decode unpacks the chunk's buckets, oldest first. Bytes that Series does not
// write are knowledge.ErrEncoding.
func (c Chunk) Decode() ([]Bucket, error) {
	if int(c.Tier) >= TierCount {
		return nil, fmt.Errorf("cannot read chunk: %w: tier %d", knowledge.ErrEncoding, c.Tier)
	}
	n := c.Tier.Buckets()
	span := int64(c.Tier.Span() / time.Second)
	if len(c.Data) < 1 || c.Data[0] != chunkVersion && c.Data[0] != firstVersion || len(c.Data) > 1+n*maxBucketBytes ||
		c.Start < 0 || c.Start%span != 0 || c.Start > math.MaxInt64/int64(time.Second)-span {
		return nil, fmt.Errorf("cannot read chunk: %w", knowledge.ErrEncoding)
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
		demand, peak := mean, high
		b.Containers = 1
		if c.Data[0] != firstVersion {
			demand = mean + r.uint(maxMilli-min(mean, maxMilli))
			peak = max(high, demand)
			peak += r.uint(maxMilli - min(peak, maxMilli))
			b.Containers = int(r.uint(maxContainers))
		}
		at += int(gap)
		if r.bad || gap == 0 || at >= n || b.Containers < 1 {
			return nil, fmt.Errorf("cannot read chunk: %w: bucket %d", knowledge.ErrEncoding, len(out))
		}
		b.MeanCPU, b.MaxCPU = float64(mean)/1000, float64(high)/1000
		b.MeanDemand, b.MaxDemand = float64(demand)/1000, float64(peak)/1000
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
