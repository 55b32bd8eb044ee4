package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

type peerKey struct{}

// withPeer puts the credentials of the process behind a socket into the context.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if l, ok := c.(*limitedConn); ok {
		c = l.Conn
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if controlErr != nil || err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred)
}

// admitPeer lets every process that could open the socket read; writes are for root, the
// daemon's own user and the socket's group.
func (s *Server) admitPeer(_ *answer, r *http.Request) (*http.Request, *problem) {
	cred, _ := r.Context().Value(peerKey{}).(*unix.Ucred)
	by := "cli"
	if cred != nil {
		by = "cli " + userName(cred.Uid)
	}
	if !isRead(r) && (cred == nil || !mayWrite(cred, os.Geteuid(), s.socketGroup)) {
		return nil, refuse(http.StatusForbidden, "this changes something: only root, the daemon's user and members of "+
			"the socket's group may; use sudo")
	}
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, by)), nil
}

func mayWrite(cred *unix.Ucred, self, group int) bool {
	if cred.Uid == 0 || int64(cred.Uid) == int64(self) || int64(cred.Gid) == int64(group) {
		return true
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(cred.Uid), 10))
	if err != nil {
		return false
	}
	groups, err := u.GroupIds()
	return err == nil && slices.Contains(groups, strconv.Itoa(group))
}

func userName(uid uint32) string {
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", uid)
}

// groupID is a group by name or number; one that does not exist is the daemon's own.
func groupID(name string) int {
	if name == "" {
		return os.Getegid()
	}
	if g, err := user.LookupGroup(name); err == nil {
		if id, ok := parseID(g.Gid); ok {
			return id
		}
	}
	if id, ok := parseID(name); ok {
		return id
	}
	return os.Getegid()
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}
