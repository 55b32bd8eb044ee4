package cgroup

import (
	"bytes"

	"github.com/effiscale/effiscale/knowledge"
)

// memoryParts are the lines of memory.stat that are added up.
type memoryParts struct {
	slab, stacks, tables, percpu, sockets knowledge.Bytes
	caches                                knowledge.Bytes // slab_reclaimable
	inactive, active, dirty, writing      knowledge.Bytes
	refaults                              [2]int64 // one line until Linux 5.8, then anon and file apart
	majorFaults                           int64
	seen                                  uint8
}

const (
	seenAnon = 1 << iota
	seenInactive
	seenKernel
	seenRefaults
)

// parseMemoryStat reads memory.stat. On v1 the total_ lines hold the cgroup and its children,
// which is what its limit is held against. On v2, Linux before 5.18 has no "kernel" line; its
// largest parts are added up then. Kernels without a counter of refaults count major faults:
// pages that had to be read before a program could go on.
func parseMemoryStat(b []byte, s *knowledge.Sample, v2 bool) error {
	var p memoryParts
	s.Kernel = 0
	for l := (lines{rest: b}); l.next(); {
		if !v2 {
			var total bool
			if l.key, total = bytes.CutPrefix(l.key, []byte("total_")); !total {
				continue
			}
		}
		if !p.take(&l, s) {
			return errMalformed
		}
	}
	if p.seen&(seenAnon|seenInactive) != seenAnon|seenInactive {
		return errMalformed
	}
	switch {
	case v2 && p.seen&seenKernel == 0:
		s.Kernel = p.slab + p.stacks + p.tables + p.percpu + p.sockets
	case v2:
		s.Kernel += p.sockets
	}
	s.InactiveFile = p.inactive
	s.Dirty = min(p.dirty+p.writing, p.inactive+p.active)
	s.CleanFile = p.inactive + p.active - s.Dirty
	s.Reclaimable = s.CleanFile + min(p.caches, s.Kernel)
	s.Refaults = uint64(p.refaults[0]) + uint64(p.refaults[1])
	if p.seen&seenRefaults == 0 {
		s.Refaults = uint64(p.majorFaults)
	}
	return nil
}

// take reads one line, and reports whether it is valid. Lines of other names are not read.
func (p *memoryParts) take(l *lines, s *knowledge.Sample) bool {
	var to *knowledge.Bytes
	count := &p.majorFaults
	switch string(l.key) {
	case "anon", "rss":
		to, p.seen = &s.Anon, p.seen|seenAnon
	case "file", "cache":
		to = &s.File
	case "inactive_file":
		to, p.seen = &p.inactive, p.seen|seenInactive
	case "active_file":
		to = &p.active
	case "file_dirty", "dirty":
		to = &p.dirty
	case "file_writeback", "writeback":
		to = &p.writing
	case "shmem":
		to = &s.Shmem
	case "unevictable":
		to = &s.Unevictable
	case "kernel":
		to, p.seen = &s.Kernel, p.seen|seenKernel
	case "slab":
		to = &p.slab
	case "slab_reclaimable":
		to = &p.caches
	case "kernel_stack":
		to = &p.stacks
	case "pagetables":
		to = &p.tables
	case "percpu":
		to = &p.percpu
	case "sock":
		to = &p.sockets
	case "workingset_refault", "workingset_refault_file":
		count, p.seen = &p.refaults[0], p.seen|seenRefaults
	case "workingset_refault_anon":
		count, p.seen = &p.refaults[1], p.seen|seenRefaults
	case "pgmajfault":
	default:
		return true
	}
	v, good := l.number()
	if to == nil {
		*count = v
		return good
	}
	b, err := size(v)
	*to = b
	return good && err == nil
}

// parseKernelMemory reads memory.kmem.usage_in_bytes of v1, after memory.stat.
func parseKernelMemory(b []byte, s *knowledge.Sample) error {
	v, err := single(b)
	if err != nil {
		return err
	}
	if s.Kernel, err = size(v); err != nil {
		return err
	}
	s.Reclaimable = s.CleanFile + knowledge.KernelCaches(s.Kernel, s.Anon)
	return nil
}
