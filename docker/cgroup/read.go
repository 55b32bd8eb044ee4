package cgroup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openPath opens a NUL-terminated path. It is unix.Openat without the copy of
// the path that a string needs, which would be one allocation for each file.
func openPath(path []byte, flags int) (int, error) {
	cwd := unix.AT_FDCWD
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(cwd), uintptr(unsafe.Pointer(&path[0])),
			uintptr(flags|unix.O_CLOEXEC), 0, 0, 0)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EINTR:
		default:
			return -1, errno
		}
	}
}

// pread fills b from the offset, as far as the file goes.
func pread(fd int, b []byte, offset int64) (int, error) {
	for {
		n, err := unix.Pread(fd, b, offset)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// open opens a file of a directory. The Host's lock is held.
func (h *Host) open(dir, name string, flags int) (int, error) {
	h.path = append(h.path[:0], dir...)
	h.path = append(h.path, '/')
	h.path = append(h.path, name...)
	h.path = append(h.path, 0)
	return openPath(h.path, flags)
}

// slurp opens, reads and closes a file. The content is the Host's buffer, good
// until the next reading. A cgroup file comes in one piece, so that a short read
// is its end; entire reads until nothing comes, for files of records. The Host's
// lock is held.
func (h *Host) slurp(dir, name string, entire bool) ([]byte, error) {
	fd, err := h.open(dir, name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for n := 0; ; {
		m, err := pread(fd, h.buf[n:], int64(n))
		if err != nil {
			return nil, err
		}
		n += m
		if m == 0 || (n < len(h.buf) && !entire) {
			return h.buf[:n], nil
		}
		if n < len(h.buf) {
			continue
		}
		if n >= maxBuffer {
			return nil, errTooLong
		}
		h.buf = append(h.buf, make([]byte, len(h.buf))...)
	}
}

// kept reads a kept-open file of the fast tier. The Host's lock is held.
func (h *Host) kept(fd int32) ([]byte, error) {
	n, err := pread(int(fd), h.buf, 0)
	if err == nil && n == 0 && unlinked(int(fd)) {
		err = unix.ENODEV
	}
	return h.buf[:n], err
}

// unlinked reports whether an open file has no name any more. A kernel refuses
// to read such a cgroup file; a copy of one on disk comes back empty.
func unlinked(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Nlink == 0
}

// faults collects what went wrong with the files of one reading: the first error
// with the file's name, unless the cgroup turns out to be gone.
type faults struct {
	gone bool
	err  error
	file string
}

// note takes the result of one file.
func (f *faults) note(dir, name string, err error) {
	switch {
	case err == nil || f.gone || err == errAbsent:
	case err == unix.ENODEV || err == unix.ENOENT && !isDir(dir):
		f.gone = true
	case err == unix.ENOENT || err == unix.EOPNOTSUPP: // the file alone is gone, or switched off
	case f.err == nil:
		f.err, f.file = err, dir+"/"+name
	}
}

func (f *faults) result() error {
	switch {
	case f.gone:
		return ErrGone
	case f.err != nil:
		return fmt.Errorf("cannot read %s: %w", f.file, f.err)
	}
	return nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return "", err
	}
	if int64(len(b)) > limit {
		return "", errTooLong
	}
	return string(b), nil
}

// vanished reports whether a write failed because the cgroup was removed.
func vanished(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT)
}
