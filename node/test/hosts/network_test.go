package hosts

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// network joins the hosts: a router in this process, with a TUN device in each
// host. So faults need neither packet filter nor traffic shaper, which a kernel
// may lack, and are undone by forgetting them.
type network struct {
	mu     sync.Mutex
	ports  map[int]*os.File
	deaf   map[[2]int]bool // from, to: lost
	loss   float64         // share of all packets
	delay  time.Duration
	jitter time.Duration // to either side of the delay
	chance *rand.Rand
	over   sync.WaitGroup
}

func newNetwork() *network {
	return &network{ports: map[int]*os.File{}, deaf: map[[2]int]bool{}, chance: rand.New(rand.NewPCG(1, 2))}
}

const (
	maxPacket = 1500
	// subnet is nobody else's: it exists in the namespaces only.
	subnet = "10.213.0."
)

func address(n int) string { return fmt.Sprintf("%s%d", subnet, n) }

func namespace(n int) string { return fmt.Sprintf("effi-h%d", n) }

// inside are the words before a command that make it run in a host's network.
// `ip netns exec` would hide the mounts below /sys.
func inside(n int) []string {
	return []string{"nsenter", "--net=/var/run/netns/" + namespace(n)}
}

func command(words ...string) error {
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, out)
	}
	return nil
}

// plug makes a host's namespace and its device eth0, and carries its packets.
func (w *network) plug(n int) error {
	name := fmt.Sprintf("effi-t%d", n)
	port, err := openTUN(name)
	if err != nil {
		return err
	}
	in := inside(n)
	for _, words := range [][]string{
		{"ip", "netns", "add", namespace(n)},
		{"ip", "link", "set", name, "netns", namespace(n)},
		append(slices.Clone(in), "ip", "link", "set", name, "name", "eth0", "mtu", fmt.Sprint(maxPacket)),
		append(slices.Clone(in), "ip", "address", "add", address(n)+"/24", "dev", "eth0"),
		append(slices.Clone(in), "ip", "link", "set", "lo", "up"),
		append(slices.Clone(in), "ip", "link", "set", "eth0", "up"),
	} {
		if err := command(words...); err != nil {
			port.Close()
			return err
		}
	}
	w.mu.Lock()
	w.ports[n] = port
	w.mu.Unlock()
	w.over.Go(func() { w.carry(n, port) })
	return nil
}

// openTUN makes a device that lasts as long as its file.
func openTUN(name string) (*os.File, error) {
	const (
		setInterface = 0x400454ca // TUNSETIFF
		tun, plain   = 0x0001, 0x1000
	)
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open /dev/net/tun: %w", err)
	}
	var request struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:15], name)
	request.flags = tun | plain
	if _, _, no := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), setInterface,
		uintptr(unsafe.Pointer(&request))); no != 0 {
		syscall.Close(fd)
		return nil, fmt.Errorf("cannot make device %s: %w", name, no)
	}
	// Not before: an interface that is not there yet is an error to the poller.
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (w *network) close() {
	if w == nil {
		return
	}
	w.mu.Lock()
	for _, p := range w.ports {
		p.Close()
	}
	w.mu.Unlock()
	w.over.Wait()
}

// carry takes what a host sends to the hosts it is for.
func (w *network) carry(from int, port *os.File) {
	buf := make([]byte, maxPacket+64)
	for {
		n, err := port.Read(buf)
		if err != nil {
			return
		}
		if to, wait, ok := w.fate(from, buf[:n]); ok {
			if wait <= 0 {
				_, _ = to.Write(buf[:n])
				continue
			}
			late := slices.Clone(buf[:n])
			time.AfterFunc(wait, func() { _, _ = to.Write(late) })
		}
	}
}

// fate is where a packet goes, and when; ok is false when it is lost.
func (w *network) fate(from int, packet []byte) (to *os.File, wait time.Duration, ok bool) {
	if len(packet) < 20 || packet[0]>>4 != 4 || packet[16] != 10 || packet[17] != 213 || packet[18] != 0 {
		return nil, 0, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := int(packet[19])
	if w.deaf[[2]int{from, n}] || w.chance.Float64() < w.loss {
		return nil, 0, false
	}
	if w.delay > 0 {
		wait = w.delay + time.Duration((2*w.chance.Float64()-1)*float64(w.jitter))
	}
	to = w.ports[n]
	return to, wait, to != nil
}

// cut loses everything from some hosts to others, one way.
func (w *network) cut(from, to []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range from {
		for _, b := range to {
			if a != b {
				w.deaf[[2]int{a, b}] = true
			}
		}
	}
}

// split loses everything between two sides.
func (w *network) split(a, b []int) { w.cut(a, b); w.cut(b, a) }

// isolate takes hosts off the network, also from each other.
func (w *network) isolate(hosts ...int) {
	w.mu.Lock()
	all := make([]int, 0, len(w.ports))
	for n := range w.ports {
		all = append(all, n)
	}
	w.mu.Unlock()
	w.split(hosts, all)
}

// spoil loses a share of all packets and delays the others.
func (w *network) spoil(loss float64, delay, jitter time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loss, w.delay, w.jitter = loss, delay, jitter
}

// heal undoes every fault of the network.
func (w *network) heal() {
	w.spoil(0, 0, 0)
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.deaf)
}

// link pulls a host's cable, or puts it back: unlike a cut, the host notices.
func (w *network) link(n int, up bool) error {
	state := "down"
	if up {
		state = "up"
	}
	return command(append(inside(n), "ip", "link", "set", "eth0", state)...)
}
