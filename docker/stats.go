package docker

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/effiscale/effiscale/knowledge"
)

// Stats fills s from one-shot statistics, for hosts whose cgroup files cannot be read. It
// costs the Engine about 1 ms of CPU, and takes a second on 20.10. Quota, pressure and OOM
// kills are not part of it, and missing from s.Have. MemoryLimit is set when it is below
// the host's total, without HasLimits: the quota is not known.
func (c *Client) Stats(ctx context.Context, id knowledge.ContainerID, s *knowledge.Sample) error {
	if err := checkID(opStats, id); err != nil {
		return err
	}
	return c.do(ctx, opStats, string(id), c.o.InspectTimeout, func(ctx context.Context, ss *session) error {
		h, err := ss.knownHost(ctx)
		if err != nil {
			return err
		}
		r, err := ss.api.ContainerStatsOneShot(ctx, string(id))
		if err != nil {
			return err
		}
		defer r.Body.Close()
		var j container.StatsResponse
		if err := json.NewDecoder(io.LimitReader(r.Body, otherBound)).Decode(&j); err != nil {
			return err
		}
		if j.Read.Year() < 1970 { // it does not run
			return &Error{Op: opStats.name, ID: string(id), Kind: KindGone, Message: "the container is not running", Status: 200}
		}
		*s = sampleOf(&j, h.Memory)
		s.At = time.Now()
		return nil
	})
}

// sampleOf converts statistics of cgroup v1 and v2: the names in memory.stat differ;
// total_ is the whole tree on v1.
func sampleOf(j *container.StatsResponse, host knowledge.Bytes) knowledge.Sample {
	var s knowledge.Sample
	s.Have = knowledge.HasCPU | knowledge.HasThrottle
	s.CPUUsage = time.Duration(bounded(j.CPUStats.CPUUsage.TotalUsage))
	t := j.CPUStats.ThrottlingData
	s.Periods, s.Throttled = t.Periods, t.ThrottledPeriods
	s.ThrottledTime = time.Duration(bounded(t.ThrottledTime))
	if j.MemoryStats.Usage > 0 {
		memoryOf(&j.MemoryStats, host, &s)
	}
	for _, e := range j.BlkioStats.IoServiceBytesRecursive {
		switch e.Op {
		case "read", "Read":
			s.ReadBytes += e.Value
		case "write", "Write":
			s.WriteBytes += e.Value
		default:
			continue
		}
		s.Have |= knowledge.HasIO
	}
	if j.PidsStats.Current > 0 {
		s.Have |= knowledge.HasPids
		s.Pids = bounded(j.PidsStats.Current)
	}
	for _, n := range j.Networks {
		s.Have |= knowledge.HasNetwork
		s.RxBytes += n.RxBytes
		s.TxBytes += n.TxBytes
	}
	return s
}

func memoryOf(m *container.MemoryStats, host knowledge.Bytes, s *knowledge.Sample) {
	s.Have |= knowledge.HasMemory
	s.MemoryUsage = knowledge.Bytes(bounded(m.Usage))
	if l := knowledge.Bytes(bounded(m.Limit)); l > 0 && l < host {
		s.MemoryLimit = l
	}
	get := func(keys ...string) (knowledge.Bytes, bool) {
		for _, k := range keys {
			if v, ok := m.Stats[k]; ok {
				return knowledge.Bytes(bounded(v)), true
			}
		}
		return 0, false
	}
	anon, okAnon := get("anon", "total_rss")
	inactive, okInactive := get("total_inactive_file", "inactive_file")
	if !okAnon || !okInactive {
		return
	}
	s.Have |= knowledge.HasMemoryStat
	s.Anon, s.InactiveFile = anon, inactive
	s.File, _ = get("file", "total_cache")
	s.Shmem, _ = get("shmem", "total_shmem")
	s.Unevictable, _ = get("total_unevictable", "unevictable")
	active, _ := get("total_active_file", "active_file")
	dirty, _ := get("total_dirty", "file_dirty")
	writing, _ := get("total_writeback", "file_writeback")
	s.Kernel = max(s.MemoryUsage-s.Anon-s.File, 0)
	caches, okCaches := get("slab_reclaimable")
	if !okCaches { // v1
		caches = knowledge.KernelCaches(s.Kernel, s.Anon)
	}
	s.Dirty = min(dirty+writing, inactive+active)
	s.CleanFile = inactive + active - s.Dirty
	s.Reclaimable = s.CleanFile + min(caches, s.Kernel)
	file, _ := get("workingset_refault_file", "workingset_refault")
	swapped, _ := get("workingset_refault_anon")
	s.Refaults = uint64(file) + uint64(swapped)
	s.MaxEvents = m.Failcnt
}

// bounded keeps a counter within an int64; a larger one is invalid, and the largest value
// shows that.
func bounded(v uint64) int64 { return int64(min(v, math.MaxInt64)) }
