package api

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// tcpPeer is the client of one TCP connection. Its user is looked up once, at its first write.
type tcpPeer struct {
	local, remote netip.AddrPort

	once sync.Once
	uid  uint32
	err  error
}

// withTCPPeer puts the client of a TCP connection into the context.
func withTCPPeer(ctx context.Context, c net.Conn) context.Context {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	remote, ok2 := c.RemoteAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, &tcpPeer{local: plain(local), remote: plain(remote)})
}

// plain is an address, IPv4 where it is mapped into IPv6.
func plain(a *net.TCPAddr) netip.AddrPort {
	at := a.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}

// user is the user whose process opened the connection.
func (p *tcpPeer) user() (uint32, error) {
	p.once.Do(func() { p.uid, p.err = ownerOf(p.remote, p.local) })
	return p.uid, p.err
}

// forwardedBy are headers that a proxy adds: the user of its connection is the proxy's, not the
// client's.
func forwardedBy() []string {
	return []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"}
}

// admitLocal lets every process that reaches loopback read. Writes without a token are for
// root, the daemon's own user and members of the socket's group, as on the socket.
func (s *Server) admitLocal(r *http.Request) *problem {
	if roleFor(r) <= RoleRead {
		return nil
	}
	for _, name := range forwardedBy() {
		if len(r.Header.Values(name)) > 0 {
			return refuse(http.StatusForbidden, "this call changes something and came through a proxy (header "+name+
				"), which hides the user who sent it; set api.tokens_file and send a token")
		}
	}
	p, _ := r.Context().Value(peerKey{}).(*tcpPeer)
	if p == nil {
		return refuse(http.StatusForbidden, "this call changes something, and its user is not known; "+tokenRemedy)
	}
	uid, err := p.user()
	if err != nil {
		return refuse(http.StatusForbidden, fmt.Sprintf(
			"this call changes something, and the user who sent it is not known (%v); %s", err, tokenRemedy))
	}
	if mayWrite(&unix.Ucred{Uid: uid, Gid: noGroup}, os.Geteuid(), s.socketGroup) {
		return nil
	}
	join := ""
	if s.socketGroup != 0 {
		join = fmt.Sprintf("join the group (sudo usermod -aG %s %s), ", groupName(uint32(s.socketGroup)), userName(uid))
	}
	return refuse(http.StatusForbidden, fmt.Sprintf("this call changes something: without a token only %s may, not %s; "+
		"use sudo, %sor %s", Writers(s.o.SocketGroup), userName(uid), join, tokenRemedy))
}

const tokenRemedy = "set api.tokens_file and send a token, or use the command effiscale"

// noGroup is no group's id: a connection has a user, but no group.
const noGroup = 1<<32 - 1

// Writers names the users whose changes are taken without a token, for texts.
func Writers(socketGroup string) string {
	text := "root"
	if self := os.Geteuid(); self != 0 {
		text += ", " + userName(uint32(self))
	}
	return text + " and members of the group " + groupName(uint32(groupID(socketGroup)))
}

// CheckLocalUsers reports why the users of loopback connections cannot be found, so that
// their writes are refused; nil: they can.
func CheckLocalUsers() error {
	nothing := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 1)
	if _, err := ownerOf(nothing, nothing); !errors.Is(err, errNoSocket) {
		return err
	}
	return nil
}

var (
	errNoSocket = errors.New("its connection is closed, or belongs to another network namespace")
	errNoAnswer = errors.New("the kernel's answer about the connection cannot be read")
	errNotLocal = errors.New("the connection is not from loopback")
)

// diagError is the error of a kernel that does not answer.
func diagError(err error) error {
	return fmt.Errorf("cannot ask the kernel for the user of a connection: %w; this needs AF_NETLINK in "+
		"RestrictAddressFamilies of the systemd unit, and the kernel's inet_diag", err)
}

// The sizes and fields of linux/inet_diag.h: inet_diag_sockid begins at 8 in the request and at
// 4 in the answer. Ports and addresses are in network order.
const (
	diagRequest = unix.SizeofNlMsghdr + 56
	diagAnswer  = unix.SizeofNlMsghdr + 72
	diagUID     = unix.SizeofNlMsghdr + 64
	diagInode   = unix.SizeofNlMsghdr + 68
	diagSeq     = 1
)

// ownerOf asks the kernel for the user of the socket at one end of a TCP connection, from which
// to leads. The cost does not depend on how many sockets there are.
func ownerOf(from, to netip.AddrPort) (uint32, error) {
	if !from.Addr().IsLoopback() || !to.Addr().IsLoopback() || from.Addr().Is4() != to.Addr().Is4() {
		return 0, errNotLocal
	}
	answer, err := askKernel(diagQuery(from, to))
	if err != nil {
		return 0, diagError(err)
	}
	const header = unix.SizeofNlMsghdr
	native := binary.NativeEndian
	if len(answer) >= header+4 && native.Uint16(answer[4:]) == unix.NLMSG_ERROR {
		code := unix.Errno(-int32(native.Uint32(answer[header:])))
		if code == unix.ENOENT {
			return 0, errNoSocket
		}
		return 0, diagError(code)
	}
	if len(answer) < diagAnswer || native.Uint16(answer[4:]) != unix.SOCK_DIAG_BY_FAMILY {
		return 0, errNoAnswer
	}
	switch id := answer[header+4:]; {
	case binary.BigEndian.Uint16(id) != from.Port() || binary.BigEndian.Uint16(id[2:]) != to.Port():
		return 0, errNoSocket // a listener on that port, or a mistake
	case native.Uint32(answer[diagInode:]) == 0:
		return 0, errNoSocket // closed by its process: the kernel shows user 0 then
	}
	return native.Uint32(answer[diagUID:]), nil
}

// diagQuery is the request for one TCP socket.
func diagQuery(from, to netip.AddrPort) []byte {
	native := binary.NativeEndian
	b := make([]byte, diagRequest)
	native.PutUint32(b, diagRequest)
	native.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	native.PutUint16(b[6:], unix.NLM_F_REQUEST)
	native.PutUint32(b[8:], diagSeq)
	req := b[unix.SizeofNlMsghdr:]
	req[0], req[1] = unix.AF_INET6, unix.IPPROTO_TCP
	if from.Addr().Is4() {
		req[0] = unix.AF_INET
	}
	native.PutUint32(req[4:], 1<<32-1) // any state
	id := req[8:]
	binary.BigEndian.PutUint16(id, from.Port())
	binary.BigEndian.PutUint16(id[2:], to.Port())
	copy(id[4:20], from.Addr().AsSlice())
	copy(id[20:36], to.Addr().AsSlice())
	native.PutUint64(id[40:], 1<<64-1) // no cookie
	return b
}

// askKernel sends one message to sock_diag(7) and returns the answer.
func askKernel(query []byte) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return nil, err
	}
	if err := unix.Sendto(fd, query, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	b := make([]byte, 4096)
	n, sender, err := unix.Recvfrom(fd, b, 0)
	if err != nil {
		return nil, err
	}
	if at, ok := sender.(*unix.SockaddrNetlink); !ok || at.Pid != 0 {
		return nil, errNoAnswer // not from the kernel
	}
	return b[:n], nil
}
