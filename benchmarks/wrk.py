"""wrk, a load generator in C: what it sees of the service, whose cores it leaves alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers import PORT

# Each connection asks again as soon as it is answered, and one that is refused waits as long as it is told to. A
# refusal is of one connection and the wait of the next that asks, which comes to the same.
_SCRIPT = """
local bodies, asked, wait, owed, refused = {}, 0, 1, 0, 0
local threads = {}

function setup(thread) threads[#threads + 1] = thread end

function init(arguments)
  for line in io.lines(arguments[1]) do bodies[#bodies + 1] = line end
  refused_in_all = 0
end

function request()
  asked = asked % #bodies + 1
  return wrk.format("POST", "/classify", {["Content-Type"] = "application/json"}, bodies[asked])
end

function response(status, headers)
  if status == 503 then
    refused_in_all = refused_in_all + 1
    owed = owed + 1
    wait = tonumber(headers["retry-after"]) or 1
  end
end

function delay()
  if owed == 0 then return 0 end
  owed = owed - 1
  return wait * 1000
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\\n{"requests": %d, "seconds": %f, "refused": %d, "bad": %d, "broken": %d, "p50": %f, "p99": %f}\\n',
    summary.requests, summary.duration / 1e6, threads[1]:get("refused_in_all"), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
"""


@dataclass(frozen=True)
class Found:
    """What wrk counted; times are in seconds."""

    requests: int
    """Answered, with whatever status."""
    seconds: float
    refused: int
    """With 503."""
    failed: int
    """With other statuses that are no success, and connections that broke."""
    p50: float
    p99: float


def installed() -> bool:
    """Whether there is a wrk."""
    return shutil.which("wrk") is not None


def measure(bodies: Sequence[Mapping[str, Any]], *, clients: int, seconds: float, timeout: float = 120) -> Found:
    """Have clients ask over and over with these bodies.

    :param seconds: rounded up, as wrk knows whole ones only.
    :param timeout: seconds after which an answer counts as failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        script, lines = Path(scratch, "ask.lua"), Path(scratch, "bodies")
        script.write_text(_SCRIPT, encoding="utf-8")
        lines.write_text("".join(f"{json.dumps(body)}\n" for body in bodies), encoding="utf-8")
        # One thread, which the script's counts rely on.
        command = ["wrk", "--threads", "1", "--connections", str(clients), "--duration", f"{-(-seconds // 1):.0f}s"]
        command += ["--timeout", f"{timeout:.0f}s", "--script", str(script), f"http://127.0.0.1:{PORT}", str(lines)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return read(done.stdout, done.stderr)


def read(said: str, complaint: str = "") -> Found:
    """What the script printed last.

    :raises SystemExit: it printed nothing.
    """
    try:
        counts = json.loads(said.strip().split("\n")[-1])
    except ValueError:
        raise SystemExit(f"wrk did not measure: {(complaint or said).strip()[-300:]}") from None
    # 503s are among the bad statuses.
    failed = counts["bad"] - counts["refused"] + counts["broken"]
    return Found(counts["requests"], counts["seconds"], counts["refused"], failed, p50=counts["p50"], p99=counts["p99"])
