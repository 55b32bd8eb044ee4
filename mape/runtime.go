package mape

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
)

// programs is a probe that knows the processes of its container: their names, and what one of them
// has mapped.
type programs interface {
	Processes() (names []string, mapped knowledge.Mapped)
}

// life is what is read of a container's processes, twice after its start.
type life struct {
	at      time.Time // of the first reading
	looks   int
	runtime analyse.Runtime
	mapped  knowledge.Mapped
	limit   knowledge.Bytes // of memory, at the start; 0: none, or not seen
}

// lifeFirst and lifeAgain are when processes are looked at, after the first reading: what runs
// below a shell or a supervisor is there by then, and before a container gets its first limit.
const lifeFirst, lifeAgain = 5 * time.Second, 45 * time.Second

// lookAtProcesses recognises the runtime.
func (c *container) lookAtProcesses(now time.Time) {
	l := &c.reading.life
	if l.at.IsZero() {
		l.at = now
		if age := c.Finding.Age; age > 0 && age < lifeFirst {
			l.limit = c.Window.MemoryLimit
		}
	}
	due := now.Sub(l.at)
	if l.looks > 1 || due < lifeFirst || l.looks == 1 && due < lifeAgain {
		return
	}
	l.looks++
	p, ok := c.Probe.(programs)
	if !ok {
		return
	}
	names, mapped := p.Processes()
	if r := analyse.RuntimeOf(names); r.Name != "" {
		l.runtime = r
	}
	l.mapped.Shared = max(l.mapped.Shared, mapped.Shared)
	if l.runtime.Heap {
		l.mapped.Heap, l.mapped.Planned = max(l.mapped.Heap, mapped.Heap), max(l.mapped.Planned, mapped.Planned)
	}
}

// reserved is the memory that is mapped and not used yet: its first use takes it faster than a limit
// can follow.
func (l *life) reserved(s *knowledge.Sample) knowledge.Bytes {
	return max(l.mapped.Shared-s.Shmem, 0) + max(l.mapped.Heap-s.Anon, 0)
}
