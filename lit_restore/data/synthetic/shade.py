"""The head's surface under the light of a photo."""

from __future__ import annotations

import cv2
import numpy as np

from lit_restore.data.synthetic.backdrop import Scene
from lit_restore.data.synthetic.curves import clamp, ramp
from lit_restore.data.synthetic.feature_paint import paint_features
from lit_restore.data.synthetic.geometry import GRID_PX, Surface
from lit_restore.data.synthetic.skin import texture
from lit_restore.data.synthetic.sphere import EXTENT


def head_colour(scene: Scene, head: Surface, map_x: np.ndarray, map_y: np.ndarray) -> np.ndarray:
    """(H, W, 3) linear colour of the head's surface under the photo's light, where `cast_rays` found it."""
    light, rotation = scene.around.light, scene.view.rotation.astype(np.float32)
    tex = texture(scene.who, texture_size(scene.size_px))
    paint = paint_features(tex, scene.who, scene.around.expression, light.direction[0])
    ratio = np.float32(paint.shape[0] / GRID_PX)
    tex_x, tex_y = (map_x + 0.5) * ratio - 0.5, (map_y + 0.5) * ratio - 0.5
    colour = cv2.remap(paint, tex_x, tex_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    direction = np.float32(light.direction)
    relief = head.relief.copy()
    _cast_shadow(relief[..., 3], head.depth, rotation.T @ direction, light.softness)
    lit = cv2.remap(relief, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    *normal, occlusion = cv2.split(lit)

    def towards(axis: np.ndarray) -> np.ndarray:
        """Cosine between the normal and a camera-frame axis."""
        x, y, z = axis @ rotation
        return normal[0] * x + normal[1] * y + normal[2] * z

    facing, half = towards(direction), direction + np.float32([0, 0, 1])
    mirror = clamp(towards(half / np.linalg.norm(half)))
    for _ in range(4):  # to the 16th power
        mirror = mirror * mirror
    red, green, blue, gloss = cv2.split(colour)
    sky = 0.80 - 0.20 * towards(np.float32([0, 1, 0]))  # more light from above
    gloss = mirror * gloss * occlusion
    result = []
    for albedo, wrap, key, fill in zip((red, green, blue), (0.28, 0.19, 0.15), light.key, light.fill, strict=True):
        wrap = wrap * (0.6 + 0.6 * light.softness)  # light bleeds into the shadow, red most
        diffuse = np.maximum(facing + wrap, 0) * np.float32(key / (1 + wrap))
        diffuse = (diffuse + sky * np.float32(fill)) * occlusion
        result.append(albedo * diffuse + gloss * np.float32(key))
    return cv2.merge(result)


def texture_size(size_px: int) -> int:
    """Texels per side, for about 1.3 texels per pixel in the middle of the face; a multiple of 8."""
    return 8 * round(2.5 * size_px / 8)


def _cast_shadow(occlusion: np.ndarray, depth: np.ndarray, direction: np.ndarray, softness: float) -> None:
    """Darken ``occlusion`` (G, G) in place where nose, brows or chin keep the key light off the front of the face.

    Marches over the depth map towards the light.
    """
    if direction[2] < 0.15:
        return
    front = slice(GRID_PX // 5, GRID_PX - GRID_PX // 5)
    depth = depth[front, front]
    middle = (depth.shape[0] - 1) / 2
    blocked = np.zeros_like(depth)
    texels = GRID_PX / (2 * EXTENT) / 2  # per face unit, near the middle of the face
    for step in (0.05, 0.10, 0.16, 0.23, 0.31):
        centre = (middle + float(direction[0]) * step * texels, middle + float(direction[1]) * step * texels)
        shifted = cv2.getRectSubPix(depth, depth.shape, centre)
        np.maximum(blocked, shifted - depth - np.float32(direction[2] * step), out=blocked)
    dark = cv2.GaussianBlur(ramp(blocked, 0.0, 0.05), (0, 0), 1.0 + 2.5 * softness)
    occlusion[front, front] *= 1 - (0.62 - 0.42 * softness) * dark
