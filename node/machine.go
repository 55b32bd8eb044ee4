package node

import (
	"runtime"
	"sync/atomic"

	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
)

// machine is what is known of the host.
type machine struct {
	described atomic.Pointer[knowledge.Host] // by the Engine, or else by the kernel
	reader    *cgroup.HostReader             // nil: cannot be read
	cpu       atomic.Int64                   // nanoCPU in use in the last second
}

func (m *machine) host() knowledge.Host { return *m.described.Load() }

// fromKernel describes the host while the Engine does not answer.
func (m *machine) fromKernel() {
	h := m.host()
	if h.CPUs > 0 {
		return
	}
	h.CPUs = runtime.NumCPU()
	var s cgroup.HostSample
	if m.reader != nil && m.reader.Read(&s) == nil {
		h.Memory = s.Total
	}
	m.described.Store(&h)
}

// use reads the host's CPU and memory in use and its available memory, for the loop; nil: it
// cannot.
func (m *machine) use() func() (knowledge.NanoCPU, knowledge.Bytes, knowledge.Bytes, bool) {
	if m.reader == nil {
		return nil
	}
	var s cgroup.HostSample
	return func() (knowledge.NanoCPU, knowledge.Bytes, knowledge.Bytes, bool) {
		if m.reader.Read(&s) != nil {
			return 0, 0, 0, false
		}
		m.cpu.Store(int64(s.CPU))
		return s.CPU, s.Used, s.Available, true
	}
}

func (m *machine) load() knowledge.NanoCPU { return knowledge.NanoCPU(m.cpu.Load()) }
