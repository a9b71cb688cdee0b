-- Looks at every answer, and prints one line of JSON at the end. wrk gives each thread a state of its own.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init()
  wrong = 0
end

function response(status, headers, body)
  local image = body:sub(1, 6) == "GIF89a" and #body == 43
  -- The server writes names in lower case, which HTTP allows.
  if status ~= 200 or not image or headers["content-type"] ~= "image/gif" then
    wrong = wrong + 1
  end
end

function done(summary, latency, requests)
  local wrong = 0
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("wrong")
  end
  local errors = summary.errors
  print(string.format(
    'FIGURES {"answered": %d, "microseconds": %d, "p50_us": %d, "p99_us": %d, "max_us": %d, "wrong": %d, "errors": %d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max, wrong,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
