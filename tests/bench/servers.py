"""What the benches share: a server that is started and whose processor's time is read."""
import glob, os, socket, subprocess, time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(command, port, **environment):
    """The process of this command, once its port answers."""
    server = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return server
        except OSError:
            assert server.poll() is None, f"did not start: {' '.join(command)}"
            time.sleep(0.02)


def spent(pid):
    """The processor's time of all its threads, in nanoseconds."""
    threads = glob.glob(f"/proc/{pid}/task/*/schedstat")
    return sum(int(open(thread).read().split()[0]) for thread in threads)
