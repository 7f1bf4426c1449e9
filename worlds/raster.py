"""Numba kernels of the avatar renderer: exact orthographic round cones, ellipsoids and boxes.

A primitive is hit by the ray through a pixel along -z. The nearest hit wins the pixel; the normals
of all hits of the same group are averaged with weights exp((z - z_nearest) / blend), a smooth union
of height fields, so that limbs flow into each other without seams.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

CONE, ELLIPSOID, BOX = 0, 1, 2
(PLAIN, STRIPED, DOTTED, SKIN, HEAD, HAIR, SHOE, CANOPY, BEACH_BALL, BOOK, WOOD, GUITAR, METAL) = (
    range(13)
)
STRIPES, DOTS = 0.13, 0.115
"""Distance of one stripe or row of dots to the next, metres: two latents of a whole figure, so that
a small model can draw them and an audience see them."""


@njit(cache=True, fastmath=True)
def rasterise(kind, a, b, ra, rb, inv, frame, origin, clip, group, blend, z_buf, n_buf, id_buf):
    """Fill the depth, normal and primitive-number buffers.

    Args:
        kind: [N] CONE, ELLIPSOID or BOX.
        a: [N, 3] start of a cone or centre of a solid, pixels, y up, z to the viewer.
        b: [N, 3] end of a cone.
        ra: [N] start radius of a cone, bounding radius of a solid, pixels.
        rb: [N] end radius of a cone.
        inv: [N, 3, 3] maps pixels about the centre to the unit sphere or the unit cube.
        frame: [N, 3, 3] maps pixels about ``origin`` to the part's own metres.
        origin: [N, 3] pixels.
        clip: [N, 5] (nx, ny, nz, d, hairline): points with n·local > d are cut away; with
            hairline = 1 also what would cover the face.
        group: [N] normals are blended within a group only.
        blend: Blending distance in pixels.
        z_buf: [H, W] out, -1e9 where nothing is hit.
        n_buf: [H, W, 3] out, unit normals, y up.
        id_buf: [H, W] out, primitive number or -1.
    """
    height, width = z_buf.shape
    for i in range(kind.shape[0]):
        if kind[i] == CONE:
            x0 = min(a[i, 0] - ra[i], b[i, 0] - rb[i])
            x1 = max(a[i, 0] + ra[i], b[i, 0] + rb[i])
            y0 = min(a[i, 1] - ra[i], b[i, 1] - rb[i])
            y1 = max(a[i, 1] + ra[i], b[i, 1] + rb[i])
        else:
            x0, x1 = a[i, 0] - ra[i], a[i, 0] + ra[i]
            y0, y1 = a[i, 1] - ra[i], a[i, 1] + ra[i]
        dx, dy, dz = b[i, 0] - a[i, 0], b[i, 1] - a[i, 1], b[i, 2] - a[i, 2]
        dr = rb[i] - ra[i]
        qa = dr * dr - dx * dx - dy * dy
        qg = qa - dz * dz
        for row in range(max(0, int(height - y1) - 1), min(height, int(height - y0) + 2)):
            y = height - row - 0.5
            for col in range(max(0, int(x0)), min(width, int(x1) + 2)):
                x = col + 0.5
                ex, ey = x - a[i, 0], y - a[i, 1]
                nx, ny, nz, z = 0.0, 0.0, 0.0, 0.0
                if kind[i] == CONE:
                    qb = 2 * (ra[i] * dr + ex * dx + ey * dy)
                    qc = ra[i] * ra[i] - ex * ex - ey * ey
                    if qa < -1e-6:
                        disc = qb * qb - 4 * qa * qc
                        if disc <= 0:
                            continue
                        t = -qb / (2 * qa) + dz * math.sqrt(disc / (-4 * qa * qa * qg))
                        t = min(1.0, max(0.0, t))
                    else:
                        t = 1.0 if (dz + rb[i] - ra[i] > 0) else 0.0
                    q = (qa * t + qb) * t + qc
                    if q <= 0:
                        continue
                    r = ra[i] + t * dr
                    root = math.sqrt(q)
                    z = a[i, 2] + t * dz + root
                    nx, ny, nz = (ex - t * dx) / r, (ey - t * dy) / r, root / r
                else:
                    ox = inv[i, 0, 0] * ex + inv[i, 0, 1] * ey
                    oy = inv[i, 1, 0] * ex + inv[i, 1, 1] * ey
                    oz = inv[i, 2, 0] * ex + inv[i, 2, 1] * ey
                    ux, uy, uz = inv[i, 0, 2], inv[i, 1, 2], inv[i, 2, 2]
                    if kind[i] == ELLIPSOID:
                        sa = ux * ux + uy * uy + uz * uz
                        sb = ox * ux + oy * uy + oz * uz
                        disc = sb * sb - sa * (ox * ox + oy * oy + oz * oz - 1)
                        if disc <= 0:
                            continue
                        s = (-sb + math.sqrt(disc)) / sa
                        lx, ly, lz = ox + s * ux, oy + s * uy, oz + s * uz
                        nx = inv[i, 0, 0] * lx + inv[i, 1, 0] * ly + inv[i, 2, 0] * lz
                        ny = inv[i, 0, 1] * lx + inv[i, 1, 1] * ly + inv[i, 2, 1] * lz
                        nz = inv[i, 0, 2] * lx + inv[i, 1, 2] * ly + inv[i, 2, 2] * lz
                    else:
                        lo, hi, axis = -1e9, 1e9, 0
                        for k in range(3):
                            o = ox if k == 0 else (oy if k == 1 else oz)
                            u = ux if k == 0 else (uy if k == 1 else uz)
                            if abs(u) < 1e-9:
                                if abs(o) > 1:
                                    lo = 1e9
                                continue
                            s0, s1 = (-1 - o) / u, (1 - o) / u
                            if s0 > s1:
                                s0, s1 = s1, s0
                            lo = max(lo, s0)
                            if s1 < hi:
                                hi, axis = s1, k
                        if lo >= hi:
                            continue
                        s = hi
                        nx, ny, nz = inv[i, axis, 0], inv[i, axis, 1], inv[i, axis, 2]
                        if nz < 0:
                            nx, ny, nz = -nx, -ny, -nz
                    norm = math.sqrt(nx * nx + ny * ny + nz * nz)
                    nx, ny, nz = nx / norm, ny / norm, nz / norm
                    z = a[i, 2] + s
                if z < z_buf[row, col] - 6 * blend:
                    continue
                if clip[i, 3] < 1e3 or clip[i, 4] > 0:
                    px, py, pz = x - origin[i, 0], y - origin[i, 1], z - origin[i, 2]
                    lx = frame[i, 0, 0] * px + frame[i, 0, 1] * py + frame[i, 0, 2] * pz
                    ly = frame[i, 1, 0] * px + frame[i, 1, 1] * py + frame[i, 1, 2] * pz
                    lz = frame[i, 2, 0] * px + frame[i, 2, 1] * py + frame[i, 2, 2] * pz
                    if clip[i, 0] * lx + clip[i, 1] * ly + clip[i, 2] * lz > clip[i, 3]:
                        continue
                    if clip[i, 4] > 0:
                        fringe = 0.012 * math.cos(lx * 70.0)
                        line = -0.075 + 0.135 * min(1.0, max(0.0, (lz + 0.035) / 0.09)) + fringe
                        if ly < line:
                            continue
                best = z_buf[row, col]
                if z > best:
                    same = id_buf[row, col] >= 0 and group[id_buf[row, col]] == group[i]
                    keep = math.exp((best - z) / blend) if same else 0.0
                    n_buf[row, col, 0] = n_buf[row, col, 0] * keep + nx
                    n_buf[row, col, 1] = n_buf[row, col, 1] * keep + ny
                    n_buf[row, col, 2] = n_buf[row, col, 2] * keep + nz
                    z_buf[row, col] = z
                    id_buf[row, col] = i
                elif group[id_buf[row, col]] == group[i]:
                    w = math.exp((z - best) / blend)
                    n_buf[row, col, 0] += w * nx
                    n_buf[row, col, 1] += w * ny
                    n_buf[row, col, 2] += w * nz
    for row in range(height):
        for col in range(width):
            if id_buf[row, col] >= 0:
                nx, ny, nz = n_buf[row, col, 0], n_buf[row, col, 1], n_buf[row, col, 2]
                norm = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
                n_buf[row, col, 0] = nx / norm
                n_buf[row, col, 1] = ny / norm
                n_buf[row, col, 2] = nz / norm


@njit(cache=True, fastmath=True)
def _face(lx, ly, lz, face, skin, hair, iris, glasses, out):
    """Paint the face at a head-local point (metres) into ``out`` [3]; ``out`` holds the skin."""
    smile, mouth, brow, lid, tilt = face[0], face[1], face[2], face[3], face[4]
    if lz < 0.02:
        return
    ax = abs(lx)
    blush = math.exp(-((ax - 0.066) ** 2 + (ly + 0.038) ** 2) / 0.0006) * 0.28
    out[0] += blush * (215 - out[0])
    out[1] += blush * (96 - out[1])
    out[2] += blush * (96 - out[2])
    ux, uy = (ax - 0.046) / 0.0225, (ly - 0.014) / 0.0175
    opening = 1.0 - lid
    if ux * ux + uy * uy < 1.0:
        if uy < opening * 1.15 * (1 - 0.35 * ux * ux) + (1 - opening) * -0.35:
            for k in range(3):
                out[k] = 250.0
            gx, gy = (ax - 0.044) / 0.0125, (ly - 0.013) / 0.0135
            d = gx * gx + gy * gy
            if d < 1.0:
                for k in range(3):
                    out[k] = iris[k]
            if d < 0.36:
                for k in range(3):
                    out[k] = 18.0
            sign = 1.0 if lx > 0 else -1.0
            hx, hy = lx - sign * 0.044 + 0.004, ly - 0.018
            if hx * hx + hy * hy < 1.5e-5:
                for k in range(3):
                    out[k] = 255.0
        else:
            for k in range(3):
                out[k] = skin[k] * 0.86
    edge = math.sqrt(ux * ux + uy * uy)
    if 0.92 < edge < 1.17 and uy > -0.1 and lid < 0.6:
        for k in range(3):
            out[k] = 40.0
    if lid >= 0.6 and abs(uy + 0.3 - 0.25 * ux * ux) < 0.16 and abs(ux) < 1.05:
        for k in range(3):
            out[k] = 40.0
    by = 0.047 + 0.012 * brow - 0.35 * (ax - 0.046) * -tilt - 9.0 * (ax - 0.05) ** 2
    if abs(ly - by) < 0.0052 and 0.02 < ax < 0.074:
        for k in range(3):
            out[k] = hair[k] * 0.75
    half = 0.034 + 0.006 * smile - 0.006 * mouth * (1 - abs(smile))
    t = lx / half
    curve = -0.072 + 0.014 * smile * t * t - 0.004 * smile
    gap = 0.024 * mouth * (1 - t * t) if abs(t) < 1 else 0.0
    if abs(t) < 1.0:
        if mouth > 0.05 and curve - gap < ly < curve + 0.25 * gap:
            out[0], out[1], out[2] = 96.0, 26.0, 34.0
            if smile > 0.4 and ly > curve - 0.25 * gap:
                out[0], out[1], out[2] = 250.0, 250.0, 248.0
        lip = 0.0048 * (1 - 0.55 * t * t)
        if (curve - gap - lip < ly < curve - gap + lip) or (
            curve + 0.25 * gap - lip < ly < curve + 0.25 * gap + lip
        ):
            out[0] = skin[0] * 0.35 + 112
            out[1] = skin[1] * 0.35 + 26
            out[2] = skin[2] * 0.35 + 34
    if glasses > 0:
        r = math.sqrt((ax - 0.048) ** 2 + (ly - 0.012) ** 2)
        bridge = ax < 0.016 and abs(ly - 0.018) < 0.0065
        arm = ax > 0.082 and abs(ly - 0.018) < 0.0065
        if 0.033 < r < 0.047 or bridge or arm:
            for k in range(3):
                out[k] = 26.0
        elif r <= 0.033:  # pale, so that they stand out from dark skin too
            for k in range(3):
                out[k] = out[k] * 0.6 + 94.0


@njit(cache=True, fastmath=True)
def shade(
    z_buf,
    n_buf,
    id_buf,
    material,
    colour,
    second,
    frame,
    origin,
    face,
    skin,
    hair,
    iris,
    glasses,
    sky,
    ground,
    image,
):
    """Light every hit pixel of ``image`` [H, W, 3] (float, 0..255), in place.

    Args:
        z_buf: [H, W] depth in pixels.
        n_buf: [H, W, 3] unit normals.
        id_buf: [H, W] primitive numbers, -1 for the background.
        material: [N] material number of each primitive.
        colour: [N, 3] main colour.
        second: [N, 3] second colour of patterns.
        frame: [N, 3, 3] pixels to the part's own metres.
        origin: [N, 3] pixels.
        face: [5] expression (see looks.EXPRESSIONS).
        skin: [3] skin colour.
        hair: [3] hair colour.
        iris: [3] colour of the eyes.
        glasses: 1 for glasses, else 0.
        sky: [3] light from above, about 1.
        ground: [3] light from below, about 1.
        image: [H, W, 3] background in, picture out.
    """
    height, width = z_buf.shape
    c = np.zeros(3)
    for row in range(height):
        for col in range(width):
            i = id_buf[row, col]
            if i < 0:
                continue
            px = col + 0.5 - origin[i, 0]
            py = height - row - 0.5 - origin[i, 1]
            pz = z_buf[row, col] - origin[i, 2]
            lx = frame[i, 0, 0] * px + frame[i, 0, 1] * py + frame[i, 0, 2] * pz
            ly = frame[i, 1, 0] * px + frame[i, 1, 1] * py + frame[i, 1, 2] * pz
            lz = frame[i, 2, 0] * px + frame[i, 2, 1] * py + frame[i, 2, 2] * pz
            nx, ny, nz = n_buf[row, col, 0], n_buf[row, col, 1], n_buf[row, col, 2]
            m = material[i]
            c[0], c[1], c[2] = colour[i, 0], colour[i, 1], colour[i, 2]
            gloss, width_hl = 0.05, 8.0
            if m <= DOTTED:
                fold = math.sin(ly * 46 + 9 * math.sin(lx * 21 + lz * 17)) * math.sin(
                    lx * 33 + ly * 11
                )
                nx += 0.07 * fold
                ny += 0.07 * math.sin(ly * 38 + 7 * lx)
                if m == STRIPED and math.sin(ly * 2 * math.pi / STRIPES) > 0.1:
                    c[0], c[1], c[2] = second[i, 0], second[i, 1], second[i, 2]
                if m == DOTTED:
                    ang = math.atan2(lx, lz + 1e-6) * 0.115
                    v = ly / DOTS
                    u = ang / DOTS + 0.5 * (int(math.floor(v)) % 2)
                    du, dv = u - math.floor(u) - 0.5, v - math.floor(v) - 0.5
                    if du * du + dv * dv < 0.095:
                        c[0], c[1], c[2] = second[i, 0], second[i, 1], second[i, 2]
            elif m == HEAD:
                gloss, width_hl = 0.08, 12.0
                _face(lx, ly, lz, face, skin, hair, iris, glasses, c)
            elif m == SKIN:
                gloss, width_hl = 0.08, 12.0
            elif m == HAIR:
                strand = 0.9 + 0.13 * math.sin(math.atan2(lx, lz) * 34 + ly * 12)
                c[0] *= strand
                c[1] *= strand
                c[2] *= strand
                gloss, width_hl = 0.22, 14.0
            elif m == SHOE:
                if ly < -0.032:
                    c[0], c[1], c[2] = 236.0, 232.0, 224.0
                gloss = 0.12
            elif m == CANOPY:
                if int(math.floor(math.atan2(lx, lz) / (math.pi / 4) + 100)) % 2:
                    c[0], c[1], c[2] = second[i, 0], second[i, 1], second[i, 2]
                gloss = 0.1
            elif m == BEACH_BALL:
                band = int(math.floor(math.atan2(lx, ly) / (math.pi / 3) + 100)) % 3
                if band == 1:
                    c[0], c[1], c[2] = 245.0, 245.0, 245.0
                elif band == 2:
                    c[0], c[1], c[2] = second[i, 0], second[i, 1], second[i, 2]
                gloss, width_hl = 0.3, 24.0
            elif m == BOOK:
                if abs(lz) < 0.017 and (lx > 0.082 or abs(ly) > 0.108):
                    c[0], c[1], c[2] = 244.0, 240.0, 226.0
                elif abs(lz) >= 0.017 and abs(lx) < 0.05 and 0.03 < ly < 0.06:
                    c[0], c[1], c[2] = 240.0, 214.0, 120.0
            elif m == GUITAR:
                if lz > 0 and lx * lx + ly * ly < 0.0016:
                    c[0], c[1], c[2] = 40.0, 24.0, 16.0
                gloss, width_hl = 0.25, 20.0
            elif m == METAL:
                gloss, width_hl = 0.45, 18.0
            elif m == WOOD:
                gloss = 0.15
            diffuse = max(0.0, -0.42 * nx + 0.62 * ny + 0.66 * nz)
            fill = max(0.0, 0.7 * nx + 0.1 * ny + 0.5 * nz)
            half = max(0.0, -0.23 * nx + 0.34 * ny + 0.91 * nz) ** width_hl
            up = 0.5 + 0.5 * ny
            rim = (1 - max(0.0, nz)) ** 3
            for k in range(3):
                ambient = up * sky[k] + (1 - up) * ground[k]
                light = 0.42 * ambient + 0.60 * diffuse + 0.10 * fill
                v = c[k] * light * (1 - 0.30 * rim) + 255 * gloss * half
                image[row, col, k] = min(255.0, max(0.0, v))
